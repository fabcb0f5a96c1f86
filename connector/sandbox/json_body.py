"""JSON in bodies: what was sent is read in one place, whoever asks for it, and answers are written in one place.

- UTF-8 without a byte order mark, checked in all of the body, also in what nobody looks at.
- Nested 100 deep at most: what was read can then be written by every encoder, also inside of something else.
- Of a name that comes twice the last one counts.
- An integer beyond 64 bits is the nearest double, as for a reader that has nothing larger; a number beyond all doubles
  can't be read, nor can half of a surrogate pair.

Stricter reading of what is unverified: what can't be read for one of these reasons is malformed, like text that is no
JSON, and so is the whole of its body.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import orjson
from aiohttp import web

DEEPEST = 100

T = TypeVar("T")


class Malformed(ValueError):
    """The body isn't JSON that can be read; the text says why, for people."""


def read(body: bytes) -> Any:
    """The value of a whole body. Raises Malformed."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"the body is not valid JSON: {error}") from error
    # No value is nested deeper than it has brackets, and counting those costs next to nothing.
    if body.count(b"[") + body.count(b"{") > DEEPEST and _too_deep(value):
        raise Malformed(f"the body is nested more than {DEEPEST} deep")
    return value


def read_as(body: bytes, wanted: type[T]) -> T:
    """A body of a known form. Raises Malformed, also for JSON of another form, with the path to what is wrong."""
    try:
        return msgspec.convert(read(body), wanted)
    except msgspec.ValidationError as error:
        raise Malformed(str(error)) from error


def split(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """A body by a decoder that leaves parts of it as bytes (`msgspec.Raw`), each for `read` in its turn.

    Raises Malformed, and `msgspec.ValidationError` for JSON of another form.
    """
    try:
        if not body.isascii():
            body.decode()  # the decoder only skips what it leaves
        return decoder.decode(body)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the body is not valid JSON: {error}") from error


def answer(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def _too_deep(value: object) -> bool:
    """Level by level: a value of any depth takes no stack."""
    level = [value]
    for _ in range(DEEPEST + 1):
        containers = [each for each in level if isinstance(each, dict | list)]
        if not containers:
            return False
        level = [inner for each in containers for inner in (each.values() if isinstance(each, dict) else each)]
    return True
