"""Bodies that came compressed (`Content-Encoding: gzip`, `deflate`): noted as received, read as what they stand for.

The server doesn't decompress by itself (`auto_decompress`), because then nobody would know what was received.

Stricter reading of what is unverified: other encodings aren't read, so that such a body is no JSON.
"""

from __future__ import annotations

import zlib

from aiohttp import web

_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
_RAW = -zlib.MAX_WBITS
_MOST_MEMBERS = 64  # each is cut off what is left of the body, so that very many would take very long


class Broken(ValueError):
    """The body isn't what its encoding says."""


class TooLarge(ValueError):
    """What the body stands for is larger than any body may be."""


def encoding(request: web.Request) -> str:
    """As sent, empty for a body that came as it is; what is no text in it is shown as such."""
    sent = request.headers.get("Content-Encoding", "")
    return sent.encode(errors="surrogateescape").decode(errors="replace")  # aiohttp keeps such bytes as halves of pairs


async def decode(request: web.Request, most: int) -> None:
    """From now on `request.read()` gives what the body stands for, of `most` bytes.

    Raises what reading a body raises: RequestPayloadError for one that can't be decoded, and a 413.
    """
    body = await request.read()
    if encoding(request).strip().lower() not in ("gzip", "x-gzip", "deflate") or not body:
        return
    try:
        # aiohttp has no other place for it: whoever reads a request reads this.
        request._read_bytes = inflated(body, most)
    except Broken as error:
        raise web.RequestPayloadError(str(error)) from error
    except TooLarge as error:
        raise web.HTTPRequestEntityTooLarge(most) from error


def inflated(body: bytes, most: int) -> bytes:
    """All members of a gzip, or a zlib stream with its header or, as some send it, without. Raises Broken, TooLarge."""
    # The low half of a zlib stream's first byte is its method, 8; nobody begins a stream without a header like that.
    has_header = body[:2] == b"\x1f\x8b" or body[0] & 15 == 8
    parts: list[bytes] = []
    left, room = body, most
    try:
        while left:
            if len(parts) == _MOST_MEMBERS:
                raise Broken("the body has too many parts")
            stream = zlib.decompressobj(_GZIP_OR_ZLIB if has_header else _RAW)
            part = stream.decompress(left, room + 1)
            if len(part) > room:
                raise TooLarge
            if not stream.eof:
                raise Broken("the body ends in the middle")
            parts.append(part)
            left, room = stream.unused_data, room - len(part)
    except zlib.error as error:
        raise Broken(str(error)) from error
    return b"".join(parts)
