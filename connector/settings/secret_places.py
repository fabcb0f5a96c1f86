"""Where secrets stand in the settings, and what may be kept of a text in which they stand.

They are written as references, `env:NAME` or `file:PATH`, so a text can be kept and shown. But the URL of the store may
be written out with the password in it, and in comments old lines may stand with anything in them: both are masked.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any
from urllib.parse import unquote_plus

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
_IN_USER = re.compile(r"(://[^:@/?#\s]*:)[^\n]*(?=@)")
_IN_QUERY = re.compile(r"([?&])([^=&\n]*)=[^&\n]+")
_SECRET_OPTIONS = ("pass", "secret", "token")

# What stands in quotes comes first, so that a # in it begins no comment; comments on lines that follow each other are
# one, as a list that is commented out goes over several.
_QUOTED_OR_COMMENT = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*(?:\n[ \t]*#[^\n]*)*', re.DOTALL
)
_ASSIGNED = re.compile(
    r'((?<![\w.-])[\w.-]*(?:key|token|secret|passw|pwd)[\w.-]*["\']?[ \t]*=[ \t]*)'
    r'(\[[^\]]*\]?|"(?:\\.|[^"\\\n])*"?|\'[^\'\n]*\'?|[^\n]*)',
    re.IGNORECASE,
)
# A reference by a name that is no secret itself, or what shows that something is left out.
_NO_SECRET = re.compile(r"env:[A-Z0-9_]+\b|file:[\w./-]*[./][\w./-]*|…|\.\.\.|\*\*\*")


def is_reference(written: str) -> bool:
    """Whether the text names where a secret stands, or that there is none."""
    return not written or written.startswith(("env:", "file:"))


def without_password(url: str) -> str:
    """The URL of a store, its passwords masked: that of the user, and those among the options."""
    return _IN_QUERY.sub(_option, _IN_USER.sub(rf"\g<1>{_MASK}", url))


def shareable(text: str) -> str | None:
    """The text of a settings file without the password of its store, and without what may be a secret in a comment.
    None where one may stand in it that can't be told apart: it is no TOML, or holds a literal where a reference
    belongs."""
    raw = _parsed(text)
    if raw is None or any(_is_literal(raw, place) for place in PLACES if place not in LITERAL_TOO):
        return None
    text = _QUOTED_OR_COMMENT.sub(_commented, text)
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


def _option(found: re.Match[str]) -> str:
    is_secret = any(word in unquote_plus(found[2]).lower() for word in _SECRET_OPTIONS)
    return f"{found[1]}{found[2]}={_MASK}" if is_secret else found[0]


def _commented(found: re.Match[str]) -> str:
    """The comment as it may be kept; what is none stays."""
    return without_password(_ASSIGNED.sub(_assigned, found[0])) if found[0].startswith("#") else found[0]


def _assigned(found: re.Match[str]) -> str:
    return f"{found[1]}{_MASK}" if _NO_SECRET.sub("", found[2]).strip(" \t\n#[],\"'") else found[0]


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
