"""Where secrets stand in the settings, and what may be kept of a text in which they stand.

They are written as references, `env:NAME` or `file:PATH`, so a text can be kept and shown. The exception is the URL of
the store, which may be written out with the password in it.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

# In the order of the settings; `*` stands for every entry of a list. A test holds them against the model.
PLACES: tuple[tuple[str, ...], ...] = (
    ("admin", "token"),
    ("store", "url"),
    ("customerio", "api_key"),
    ("webhooks", "signing_keys", "*"),
    ("webhooks", "url_key"),
    ("intake", "write_keys", "*"),
    ("intake", "browser_keys", "*"),
)
STORE = ("store", "url")
# May also be written out: a store without a password, and what stands in every web page.
LITERAL_TOO = (STORE, ("intake", "browser_keys", "*"))

_MASK = "***"
_IN_USER = re.compile(r"(://[^/?#@]*?:)[^/?#]+(?=@)")
_IN_QUERY = re.compile(r"([?&]password=)[^&#]+")


def is_reference(written: str) -> bool:
    """Whether the text names where a secret stands, or that there is none."""
    return not written or written.startswith(("env:", "file:"))


def without_password(url: str) -> str:
    """The URL of a store, its password masked."""
    return _IN_QUERY.sub(rf"\g<1>{_MASK}", _IN_USER.sub(rf"\g<1>{_MASK}", url))


def shareable(text: str) -> str | None:
    """The text of a settings file without the password of its store. None where a secret may stand in it that can't be
    told apart: it is no TOML, or holds a literal where a reference belongs."""
    raw = _parsed(text)
    if raw is None or any(_is_literal(raw, place) for place in PLACES if place not in LITERAL_TOO):
        return None
    url = _at(raw, STORE)
    if url is None or not isinstance(url, str) or is_reference(url):
        return text if url is None or isinstance(url, str) else None
    masked = without_password(url)
    without = text.replace(url, masked)
    found = _parsed(without)
    return without if found is not None and _at(found, STORE) == masked else None


def with_password_of(text: str, present: str) -> str | None:
    """A shareable text as it was, with the password that another text has; None when that has another store's."""
    raw, now = _parsed(text), _parsed(present)
    url = _at(raw or {}, STORE)
    if not isinstance(url, str) or _MASK not in url:
        return text
    present_url = _at(now or {}, STORE)
    if not isinstance(present_url, str) or without_password(present_url) != url:
        return None
    return text.replace(url, present_url)


def _is_literal(raw: dict[str, Any], place: tuple[str, ...]) -> bool:
    value = _at(raw, place[:2])
    if value is None:
        return False
    if len(place) == 2:
        return not isinstance(value, str) or not is_reference(value)
    return not isinstance(value, list) or not all(isinstance(each, str) and is_reference(each) for each in value)


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return None


def _at(raw: dict[str, Any], place: tuple[str, ...]) -> Any:
    table, key = place
    held = raw.get(table)
    return held.get(key) if isinstance(held, dict) else None
