"""A request of the tracking API, taken apart: bytes in, items for the inbox out.

    body -> inflated -> write_key -> parsed (messages as they stand there) -> items (checked, wrapped for the inbox)

A batch is cut into its messages before any of them is read, so a bad one doesn't hurt the rest: strictly where the
whole is JSON, else by brackets and quotes alone, which NaN, broken text or a hundred thousand brackets don't disturb.
What can't be taken apart has one reason word: those of `core.tracking_message`, and

    bad_gzip      the compressed body is damaged, or cut off
    nested_gzip   what was inflated is compressed again
    too_many      more than 20,000 messages in one batch
"""

from __future__ import annotations

import hashlib
import itertools
import re
import zlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from connector.core import tracking_document, tracking_message
from connector.records import MessageType, Unread

MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_MESSAGES = 20_000
# A context beside the messages is stored with each of them.
_MAX_WRAPPED_BYTES = 4 * MAX_BODY_BYTES
_MAX_ID_LENGTH = 200
_MAX_SENT_AT_BYTES = 100

# What ids of our making begin with; nobody else's may.
_REFUSED = "bad:"
_HASHED = "sha256:"

_GZIP = b"\x1f\x8b"
_EITHER_FORMAT = zlib.MAX_WBITS | 32  # gzip or zlib, by its first bytes
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# Text (also without an end), runs of brackets, separators. What begins a match is never given back, so no body takes
# longer than its length.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[{]++|[\]}]++|[,:]', re.DOTALL)
_WRITE_KEY = re.compile(rb'("writeKey"\s*+:\s*+)("[^"\\]*+(?:\\.[^"\\]*+)*+"?)', re.DOTALL)


class Parsed(NamedTuple):
    """A request, taken apart: its messages, each as it stands there. `type` is what the path says they are; `sent_at`
    and `context` are JSON, said once for the whole batch."""

    messages: tuple[bytes, ...]
    type: MessageType | None = None
    sent_at: bytes | None = None
    context: bytes | None = None


class Item(NamedTuple):
    """A message for the inbox: what it is deduplicated by, what is kept, why it can't be read (None: it can)."""

    source_id: str
    body: bytes
    reason: str | None


class _Batch(msgspec.Struct):
    batch: list[msgspec.Raw]
    sentAt: msgspec.Raw = msgspec.Raw()  # noqa: N815 - the API's name
    context: msgspec.Raw = msgspec.Raw()


class _Keyed(msgspec.Struct):
    writeKey: Any = None  # noqa: N815


class _NotJsonError(Exception):
    pass


_batch_decoder = msgspec.json.Decoder(_Batch)
_keyed_decoder = msgspec.json.Decoder(_Keyed)
_decoder = msgspec.json.Decoder()


def inflated(body: bytes, content_encoding: str = "", limit: int = MAX_BODY_BYTES) -> bytes | str:
    """The body as it was before it was compressed, else the reason word.

    What it is, its first bytes say; the header decides only for raw deflate, which has no mark of its own.
    """
    is_zlib = len(body) > 1 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
    if body.startswith(_GZIP) or is_zlib:
        plain = _inflated(body, _EITHER_FORMAT, limit)
    elif content_encoding.strip().lower() == "deflate" and body.lstrip()[:1] not in (b"", b"{", b"["):
        plain = _inflated(body, -zlib.MAX_WBITS, limit)
    else:
        plain = body
    if isinstance(plain, bytes) and len(plain) > limit:
        return "too_large"
    return "nested_gzip" if isinstance(plain, bytes) and plain.startswith(_GZIP) else plain


def _inflated(body: bytes, window: int, limit: int) -> bytes | str:
    inflating = zlib.decompressobj(window)
    try:
        plain = inflating.decompress(body, limit + 1)
    except zlib.error:
        return "bad_gzip"
    if len(plain) > limit:
        return "too_large"
    return plain if inflating.eof and not inflating.unused_data else "bad_gzip"


def write_key(body: bytes) -> str | None:
    """The key that stands in the body. Where that isn't JSON, the first that looks like one: whoever has no key can't
    make us take it apart."""
    try:
        key = _keyed_decoder.decode(body.removeprefix(_BYTE_ORDER_MARK)).writeKey
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = _WRITE_KEY.search(body)
        key = _text(found[2]) if found else None
    return key if isinstance(key, str) else None


def parsed(body: bytes, type_of_path: MessageType | None) -> Parsed | str:
    """The request, or the reason why nothing of it can be taken. Without a type by its path it is a batch.

    A single message is one also when it can't be read: then `items` says why.
    """
    body = body.removeprefix(_BYTE_ORDER_MARK).strip()
    if type_of_path is not None:
        return Parsed((body,), type_of_path)
    found = _parsed_strictly(body)
    if found is None:
        found = _parsed_leniently(body)
    if isinstance(found, str):
        return found
    if len(found.messages) > MAX_MESSAGES:
        return "too_many"
    if found.context is not None:
        if len(found.context) > tracking_document.MAX_BYTES:
            return "too_large"
        if len(body) + len(found.context) * len(found.messages) > _MAX_WRAPPED_BYTES:
            return "too_large"
    return found


def _parsed_strictly(body: bytes) -> Parsed | str | None:
    """None when it isn't JSON."""
    try:
        batch = _batch_decoder.decode(body)
    except msgspec.ValidationError:
        return "wrong_shape"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    messages = tuple(bytes(message) for message in batch.batch)
    return _batch(messages, bytes(batch.sentAt), bytes(batch.context))


def _batch(messages: tuple[bytes, ...], sent_at: bytes, context: bytes) -> Parsed | str:
    if context == b"null":
        context = b""
    if context and not _is_json(context):
        return str(tracking_document.read(context))
    known = sent_at if 0 < len(sent_at) <= _MAX_SENT_AT_BYTES and _is_json(sent_at) else None
    return Parsed(messages, None, known, context or None)


def _is_json(raw: bytes) -> bool:
    try:
        _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _parsed_leniently(body: bytes) -> Parsed | str:
    try:
        members = dict(_members(body))
        listed = members.get("batch", b"")
        if not listed.startswith(b"["):
            return "wrong_shape"
        messages = tuple(itertools.islice(_cut(listed, b"[", b"]"), MAX_MESSAGES + 1))
    except _NotJsonError:
        return "not_json"
    return _batch(messages, members.get("sentAt", b""), members.get("context", b""))


def _members(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and values of an object; a value is whatever stands between the separators."""
    for part in _cut(body, b"{", b"}"):
        name = _TOKEN.match(part)
        found = _text(name[0]) if name else None
        after = part[name.end() :].lstrip() if name else b""
        if found is None or not after.startswith(b":"):
            raise _NotJsonError
        yield found, after[1:].strip()


def _cut(raw: bytes, opening: bytes, closing: bytes) -> Iterator[bytes]:
    """What stands between the commas of an object or a list, and nothing that stands deeper."""
    if raw[:1] != opening or raw[-1:] != closing:
        raise _NotJsonError
    depth, start, inner = 0, 1, raw[1:-1].strip()
    for token in _TOKEN.finditer(raw, 1):
        first = token[0][:1]
        if first in b"[{":
            depth += len(token[0])
        elif first in b"]}":
            depth -= len(token[0])
            if depth < 0:
                if depth != -1 or token.end() != len(raw):
                    raise _NotJsonError
                if inner:
                    yield raw[start : len(raw) - 1].strip()
                return
        elif first == b"," and depth == 0:
            yield raw[start : token.start()].strip()
            start = token.end()
    raise _NotJsonError


def _text(raw: bytes) -> str | None:
    try:
        found = _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def items(request: Parsed, received_at: datetime, *, public: bool = False, imported: bool = False) -> list[Item]:
    """The messages in their order, each checked by reading it as it will be read."""
    beside = b"".join(
        (
            b"" if request.type is None else b',"type":"%s"' % request.type.encode(),
            b"" if request.sent_at is None else b',"sentAt":' + request.sent_at,
            b"" if request.context is None else b',"context":' + request.context,
            b',"public":true' if public else b"",
            b',"imported":true' if imported else b"",
        )
    )
    return [_item(raw, request.type, beside, received_at) for raw in request.messages]


def _item(raw: bytes, type_of_path: MessageType | None, beside: bytes, received_at: datetime) -> Item:
    try:
        document = _decoder.decode(raw)
        if isinstance(document, dict) and "writeKey" in document:  # a secret, which is never stored
            del document["writeKey"]
            raw = msgspec.json.encode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        document = None
        raw = _WRITE_KEY.sub(rb'\1""', raw)
        # Only what is JSON by itself stands beside our own words: it could say it is somebody else's.
        body = b'{"unreadable":%s%s}' % (msgspec.json.encode(raw), beside)
    else:
        body = b'{"message":%s%s}' % (raw, beside)
    # Whether it can be read doesn't hang on its name.
    found = tracking_message.read("", body, received_at)
    if isinstance(found, Unread) or not isinstance(document, dict):
        # By its content, also where it has an id: mended, it may come again under the same one.
        reason = found.reason if isinstance(found, Unread) else "wrong_shape"
        return Item(_REFUSED + _digest(raw, type_of_path), body, reason)
    return Item(_own_id(document) or _HASHED + _digest(_canonical(document), type_of_path), body, None)


def _own_id(document: dict[str, Any]) -> str | None:
    given = document.get("messageId")
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = str(given)
    if not isinstance(given, str) or not 0 < len(given) <= _MAX_ID_LENGTH or not given.isprintable():
        return None
    return None if given.startswith((_REFUSED, _HASHED)) else given


def _canonical(document: dict[str, Any]) -> bytes:
    """The same for every repeat of the message."""
    return msgspec.json.encode({**document, "sentAt": None}, order="sorted")


def _digest(content: bytes, type_of_path: MessageType | None) -> str:
    return hashlib.sha256(b"%s\0%s" % ((type_of_path or "").encode(), content)).hexdigest()
