"""A message of the tracking API as JSON, or the one reason word for why it can't be taken.

not_json        not a JSON document
not_a_number    JSON but for NaN or Infinity, which Python's json and others write
bad_text        JSON but for text that is no Unicode: not UTF-8, or half of a surrogate pair
huge_number     a number that no float and no integer of a few thousand digits can hold
too_large       more than 32 KiB
too_deep        nested in more than 200 levels, the message being the first
wrong_shape     JSON, but no object
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from connector.core import text

MAX_BYTES = 32 * 1024
MAX_DEPTH = 200

_decoder = msgspec.json.Decoder()


def read(raw: bytes) -> dict[str, Any] | str:
    """The object that a message or a context is, else the reason word."""
    if len(raw) > MAX_BYTES:
        return "too_large"
    try:
        found = _decoder.decode(raw)
    except msgspec.ValidationError:
        return "huge_number"
    except RecursionError:
        return "too_deep"
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _fault(raw)
    if not isinstance(found, dict):
        return "wrong_shape"
    # Counted first: with so few brackets it can't be deep, and that is nearly every one.
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and text.deeper_than(MAX_DEPTH, found):
        return "too_deep"
    return found


def _fault(raw: bytes) -> str:
    """Why the strict reading failed, by a parser that takes more."""
    constants: list[str] = []
    try:
        json.loads(raw.decode(errors="replace"), parse_constant=constants.append, parse_int=len)
    except RecursionError:
        return "too_deep"
    except ValueError:
        return "not_json"
    return "not_a_number" if constants else "bad_text"
