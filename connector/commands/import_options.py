"""What `connector import` is told of a CSV: `--map 'E-mail=email'` and `--types plan=text,age=number`."""

from __future__ import annotations

from collections.abc import Iterable

from connector import errors
from connector.commands.rows.columns import TYPES, Type


def renamed(given: Iterable[str]) -> dict[str, str]:
    """Names by header, in lower case."""
    found: dict[str, str] = {}
    for each in given:
        header, _, name = each.rpartition("=")
        if not header.strip() or not name.strip():
            raise errors.Misconfigured(f"--map {each!r}: write it like 'E-mail=email'")
        if found.setdefault(header.strip().lower(), name.strip()) != name.strip():
            raise errors.Misconfigured(f"--map names {header.strip()} twice")
    return found


def types(given: str) -> dict[str, Type]:
    """Types by the name of the column."""
    found: dict[str, Type] = {}
    for each in filter(None, (part.strip() for part in given.split(","))):
        name, _, word = each.rpartition("=")
        known = next((one for one in TYPES if one == word.strip().lower()), None)
        if not name.strip() or known is None:
            raise errors.Misconfigured(f"--types {each!r}: write it like plan=text; types are {', '.join(TYPES)}")
        found[name.strip()] = known
    return found
