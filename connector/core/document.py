"""A webhook's body as JSON, or the one reason word for why it can't be read.

not_json         not a JSON document
bad_text         JSON, but with text that is no Unicode: not UTF-8, or half of a surrogate pair
huge_number      a number that no float and no integer of a few thousand digits can hold
too_deep         nested deeper than 100 levels, which not everything behind the reader can follow
duplicate_keys   one object has a key twice: whichever were taken, something would be lost
wrong_shape      JSON, but no object
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import msgspec

from connector.core import text

MAX_DEPTH = 100

_decoder = msgspec.json.Decoder()
# Where a key may end. Text that holds an escaped quote and a colon looks alike, so it finds too many, never too few.
_KEY_END = re.compile(rb'"[ \t\r\n]*:')


def read(body: bytes) -> dict[str, Any] | str:
    """The object that the body is, else the reason word."""
    try:
        document = _decoder.decode(body)
    except msgspec.ValidationError:
        return "huge_number"
    except RecursionError:
        return "too_deep"
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "bad_text" if _is_json_but_for_its_text(body) else "not_json"
    if not isinstance(document, dict):
        return "wrong_shape"
    # Counted first: a body with so few brackets can't be deep, and that is nearly every one.
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and text.deeper_than(MAX_DEPTH, document):
        return "too_deep"
    if len(_KEY_END.findall(body)) != _keys(document) and _has_duplicate_keys(body):
        return "duplicate_keys"
    return document


def _is_json_but_for_its_text(body: bytes) -> bool:
    try:
        # The standard parser takes lone surrogates, and text in another encoding.
        json.loads(body, parse_constant=_refuse, parse_int=len)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _keys(document: dict[str, Any]) -> int:
    """How many keys all objects in it have."""
    number = 0
    inner: list[Any] = [document]
    for each in inner:  # grows while it is gone through
        if type(each) is dict:
            number += len(each)
            inner += [value for value in each.values() if type(value) is dict or type(value) is list]
        else:
            inner += [value for value in each if type(value) is dict or type(value) is list]
    return number


class _DuplicateError(Exception):
    pass


def _has_duplicate_keys(body: bytes) -> bool:
    try:
        json.loads(body, object_pairs_hook=_unique, parse_int=len)
    except _DuplicateError:
        return True
    return False


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise _DuplicateError
