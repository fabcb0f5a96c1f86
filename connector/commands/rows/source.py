"""A file of rows, or stdin: what it is (CSV or JSONL, gzip or not), and its rows, as often as they are wanted.

What stdin holds is looked at twice when it is a CSV, so that is kept in a temporary file meanwhile; JSONL is read as it
comes.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from connector import errors
from connector.commands.rows import Form, Line, Shape, csv_rows, jsonl_rows
from connector.commands.rows.columns import Type
from connector.commands.rows.csv_rows import Layout

STDIN = Path("-")

_FORMS: Mapping[str, Form] = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_GZIP = b"\x1f\x8b"
_UNREADABLE = (OSError, EOFError, zlib.error)


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for: `renamed` columns by their header in lower case, `types` by the name they have then."""

    form: Form | None
    renamed: Mapping[str, str]
    types: Mapping[str, Type]


DEFAULTS = Options(None, {}, {})


@dataclass(frozen=True, slots=True)
class Source:
    """A file that is ready to be read. `name` is what people call it, `layout` is that of a CSV, `size` in bytes as it
    is stored (None for what comes as it comes), `digest` tells one content from another (None: it can't come again).
    """

    name: str
    rejects: Path
    form: Form
    layout: Layout | None
    shape: Shape
    size: int | None
    digest: str | None
    _file: io.BufferedReader

    def position(self) -> int:
        """How many of the bytes are read, of `size`."""
        return 0 if self.size is None else self._file.tell()

    def lines(self) -> Iterator[Line]:
        """The rows in order. Raises Failed where the file is damaged."""
        try:
            if self.size is None:
                yield from jsonl_rows.lines(self._file, whole=self.shape.whole)
                return
            self._file.seek(0)
            if self.layout is None:
                yield from jsonl_rows.lines(_inflated(self._file), whole=self.shape.whole)
                return
            with _text(self._file) as text:
                yield from csv_rows.lines(text, self.name, self.layout)
        except (*_UNREADABLE, csv.Error) as error:
            raise errors.Failed(f"{self.name} can't be read to its end: {_why(error)}") from error


@contextmanager
def opened(path: Path, shape: Shape, options: Options, watch: Callable[[int, int], None]) -> Iterator[Source]:
    """Looks at how the file is written and, for a CSV, at all of its cells once; `watch` hears of how many bytes how
    many are read by then. Raises Misconfigured with what to do."""
    name = "stdin" if path == STDIN else str(path)
    with ExitStack() as stack:
        try:
            if path == STDIN:
                source = _of_stdin(stack, shape, options, watch)
            else:
                file = stack.enter_context(path.open("rb"))
                source = _of_file(path, file, shape, options, watch)
        except UnicodeDecodeError as error:
            raise errors.Misconfigured(f"{name} is not UTF-8 text; save it as UTF-8") from error
        except _UNREADABLE as error:
            raise errors.Misconfigured(f"{name} can't be read: {_why(error)}") from error
        yield source


def _of_file(
    path: Path, file: io.BufferedReader, shape: Shape, options: Options, watch: Callable[[int, int], None]
) -> Source:
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    form = options.form or _FORMS.get(plain.suffix.lower())
    if form is None:
        raise errors.Misconfigured(
            f"{path}: name the file .csv or .jsonl, or say --format, so that it's clear what it is"
        )
    if plain is not path and not file.peek(2).startswith(_GZIP):
        raise errors.Misconfigured(f"{path} is named .gz and is no gzip file")
    _require_no_list(str(path), form, _inflated(file))
    size = file.seek(0, io.SEEK_END)
    layout = _layout(str(path), file, size, form, shape, options, watch)
    file.seek(0)
    digest = hashlib.file_digest(file, "blake2b").hexdigest()
    return Source(str(path), path.with_name(path.name + ".rejects.jsonl"), form, layout, shape, size, digest, file)


def _of_stdin(stack: ExitStack, shape: Shape, options: Options, watch: Callable[[int, int], None]) -> Source:
    file = _inflated(sys.stdin.buffer)  # type: ignore[arg-type]
    form = options.form or ("jsonl" if _first(file) in b"{[" else "csv")
    _require_no_list("stdin", form, file)
    size = None
    if form == "csv":
        kept = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
        shutil.copyfileobj(file, kept)
        file, size = kept, kept.tell()  # type: ignore[assignment]
    layout = _layout("stdin", file, size or 0, form, shape, options, watch)
    return Source("stdin", Path("stdin.rejects.jsonl"), form, layout, shape, size, None, file)


def _layout(
    name: str,
    file: io.BufferedReader,
    size: int,
    form: Form,
    shape: Shape,
    options: Options,
    watch: Callable[[int, int], None],
) -> Layout | None:
    if form == "csv":
        if shape.whole:
            raise errors.Misconfigured(f"{shape.what} come one a line, as JSON; {name} is CSV")
        file.seek(0)
        with _text(file) as text:
            return csv_rows.layout(text, name, shape, options.renamed, options.types, lambda: watch(file.tell(), size))
    if options.renamed or options.types:
        raise errors.Misconfigured(f"--map and --types are for CSV, and {name} is JSONL")
    return None


def _require_no_list(name: str, form: Form, file: io.BufferedReader) -> None:
    if form == "jsonl" and _first(file) == b"[":
        raise errors.Misconfigured(f"{name} begins with a JSON list; write one object a line (jq -c '.[]' does)")


def _first(file: io.BufferedReader) -> bytes:
    """The first byte that says something, without reading on."""
    return file.peek(512)[:512].removeprefix(codecs.BOM_UTF8).lstrip()[:1]


def _inflated(file: io.BufferedReader) -> io.BufferedReader:
    """What is in a gzip, else the file itself: by its first bytes, whatever it is called."""
    return io.BufferedReader(gzip.GzipFile(fileobj=file)) if file.peek(2).startswith(_GZIP) else file


@contextmanager
def _text(file: io.BufferedReader) -> Iterator[io.TextIOWrapper]:
    """The file as text; it stays open."""
    text = io.TextIOWrapper(_inflated(file), encoding="utf-8-sig", newline="")
    try:
        yield text
    finally:
        # Rows that were not read to their end are let go of when nobody has them any more: the file may be closed then.
        if not text.closed:
            text.detach()


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
