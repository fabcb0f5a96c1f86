"""Patterns of names and of URLs, where `*` stands for any text, also none, and everything else for itself.

What starts with a scheme or a `*` is about a whole URL; other patterns leave out its start, as people write them:

    https://shop.example.com/pricing*   the URL
    */checkout/*                        likewise
    shop.example.com/pricing*           the URL without its scheme
    /pricing*                           what follows the host, on any site

URLs are compared without case, names with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_SCHEME = r"(?:[a-z][a-z0-9+.-]*://)?"
_SITE = r"[^/?#]*"


class Patterns:
    """Texts are looked up, and only then tried: most patterns are plain names."""

    def __init__(self, texts: Iterable[str], expressions: Iterable[str], flags: int = 0) -> None:
        self._texts = frozenset(texts)
        self._expression = re.compile("|".join(expressions) or r"(?!)", flags | re.DOTALL)

    def take(self, text: str) -> bool:
        """Whether one of them is about the text."""
        return text in self._texts or self._expression.fullmatch(text) is not None


def of_names(given: Iterable[str]) -> Patterns:
    """Names of events; those without a `*` are the name."""
    given = frozenset(given)
    starred = frozenset(pattern for pattern in given if "*" in pattern)
    return Patterns(given - starred, map(_expression, sorted(starred)))


def of_pages(given: Iterable[str]) -> Patterns:
    """URLs of pages."""
    return Patterns((), [_start(pattern) + _expression(pattern) for pattern in given], re.IGNORECASE)


def _start(pattern: str) -> str:
    """What of a URL stands before that which the pattern is about."""
    if pattern.startswith("*") or pattern.partition("/")[0].endswith(":"):
        return ""
    return _SCHEME + _SITE if pattern.startswith("/") else _SCHEME


def _expression(pattern: str) -> str:
    first, *parts = map(re.escape, pattern.split("*"))
    if not parts:
        return first
    # Each part is where it is first found, for good: so no text takes longer than its length and the pattern's.
    return first + "".join(f"(?>.*?{part})" for part in parts[:-1]) + ".*" + parts[-1]
