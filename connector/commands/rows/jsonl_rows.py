"""JSONL: one object a line. What is no object, is said in the words of `core/document`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from connector.commands.rows import Bad, Line
from connector.core import document, text

MAX_LINE = 4 * 1024 * 1024

_MARK = b"\xef\xbb\xbf"
_WHY = {
    "not_json": "the line is no JSON",
    "bad_text": "the line has text that is no Unicode, or is not saved as UTF-8",
    "huge_number": "the line has a number that is too large",
    "too_deep": f"the row is nested more than {document.MAX_DEPTH} deep",
    "duplicate_keys": "the row has a key twice",
    "wrong_shape": "the line is no JSON object",
    "too_large": f"the line is longer than {MAX_LINE // 1024 // 1024} MiB",
}


def lines(file: IO[bytes], *, whole: bool) -> Iterator[Line]:
    """The rows in order, as bytes when they are wanted `whole`; blank lines are none. A line that is too long is passed
    over without being held."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(_MARK)  # a byte order mark is no part of the row
        if len(line) > MAX_LINE:
            size = len(line) + _pass_over(file, line)
            yield Line(number, None, size, Bad("too_large", _WHY["too_large"]))
            continue
        if not line.strip():
            continue
        yield _whole(number, line) if whole else _line(number, line)


def _whole(number: int, line: bytes) -> Line:
    return Line(number, line.decode(errors="replace").rstrip("\r\n"), len(line), line.strip())


def _line(number: int, line: bytes) -> Line:
    found = document.read(line)
    if isinstance(found, str):
        return Line(number, line.decode(errors="replace").rstrip("\r\n"), len(line), Bad(found, _WHY[found]))
    return Line(number, found, len(line), text.without_nul(found) if rb"\u0000" in line else found)


def _pass_over(file: IO[bytes], line: bytes) -> int:
    """Reads to the end of the line; how many bytes that were."""
    size = 0
    while not line.endswith(b"\n"):
        line = file.readline(MAX_LINE)
        if not line:
            break
        size += len(line)
    return size
