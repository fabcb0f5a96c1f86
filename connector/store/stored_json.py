"""Reading the JSON that the store holds, whoever wrote it: it never fails, so that one row stops nobody else's.

SQL may write what is JSON to the database and can't be read here: half of a surrogate pair, a number that no float and
no integer of a few thousand digits can hold, nesting that not everything behind the reader can follow. Only that is
lost. In such a text U+FFFD stands for what is no character, and None for such a number and for what is too deep; the
object says where (`records.Damaged`). Of what is no JSON at all, an empty object is left.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec

from connector.records import Damaged

MAX_DEPTH = 300

_decode = msgspec.json.Decoder().decode
_SHALLOW = 2 * MAX_DEPTH  # characters, in which nothing can be nested deeper
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_NO_CHARACTER = re.compile("[\ud800-\udfff]")
_TOO_DEEP = "1e999"  # read as a number that is too large, which is lost as well
_LOST = object()


def loads(text: str | bytes) -> Any:
    """The document; on PostgreSQL it comes as bytes."""
    try:
        found = _decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _damaged(text)
    # Counted first: with so few brackets it can't be deep, and that is nearly every one.
    if len(text) > _SHALLOW and _brackets(text) > MAX_DEPTH and _is_too_deep(found):
        return _damaged(text)
    return found


def _brackets(text: str | bytes) -> int:
    return text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")


def _is_too_deep(document: Any) -> bool:
    level = [document]
    for _ in range(MAX_DEPTH):
        inner = [each for one in level for each in (one.values() if isinstance(one, dict) else one)]
        level = [each for each in inner if isinstance(each, dict | list)]
        if not level:
            return False
    return True


def _damaged(text: str | bytes) -> Any:
    readable = text if isinstance(text, str) else bytes(text).decode(errors="replace")
    try:
        document = json.loads(_cut(readable), parse_float=_float, parse_int=_integer, parse_constant=_constant)
    except (ValueError, RecursionError):
        return Damaged({}, frozenset({""}))
    lost: set[str] = set()
    mended = _mended(document, "", lost)
    return Damaged(mended, frozenset(lost)) if isinstance(mended, dict) else mended


def _cut(text: str) -> str:
    """The same without what is nested too deep."""
    kept, depth, start = [], 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                kept += [text[start : token.start()], _TOO_DEEP]
        elif token[0] in "]}":
            if depth == MAX_DEPTH + 1:
                start = token.end()
            depth -= 1
    return "".join(kept) + text[start:]


def _float(text: str) -> Any:
    number = float(text)
    return number if math.isfinite(number) else _LOST


def _integer(text: str) -> Any:
    try:
        return int(text)
    except ValueError:  # of more digits than Python takes
        return _LOST


def _constant(_text: str) -> Any:
    return _LOST


def _mended(value: Any, path: str, lost: set[str]) -> Any:
    """A copy of which all can be encoded again; adds the paths of what is lost."""
    if isinstance(value, list):
        return [_mended(each, path, lost) for each in value]
    if isinstance(value, dict):
        mended = {}
        for name, inner in value.items():
            key = _NO_CHARACTER.sub("\ufffd", name)
            below = f"{path}.{key}" if path else key
            if key != name:
                lost.add(below)
            mended[key] = _mended(inner, below, lost)
        return mended
    if value is _LOST:
        lost.add(path)
        return None
    if isinstance(value, str) and _NO_CHARACTER.search(value) is not None:
        lost.add(path)
        return _NO_CHARACTER.sub("\ufffd", value)
    return value
