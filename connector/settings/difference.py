"""What an edit changes, key by key: what it was and what it is, what needs a restart, what changes who or what is sent.

Values are as a file would hold them (durations as text, `None` where nothing is set); of a secret only that it changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from pydantic import BaseModel, SecretStr

from connector.settings import Settings, conditions, faults, values
from connector.settings.faults import Path

# What a running connector can't change: its listeners and its store.
_RESTART: frozenset[Path] = frozenset(
    {
        *(("server", key) for key in ("host", "port", "reuse_port")),
        *(("admin", key) for key in ("host", "port", "token")),
        ("store", "url"),
    }
)
# The parts of `Settings.sent_hash`.
_SENT_TABLES = frozenset({"people", "events", "guard", "segments"})
_SENT_KEYS: frozenset[Path] = frozenset(("customerio", key) for key in ("site_id", "region", "track_url"))

_LONGEST = 300  # characters of a value in a sentence
_SHORT = 100  # characters that two lists take when both are written out
_BARE = (bool, int, float)


class Change(NamedTuple):
    """One key that differs, as a TOML path. Of a `secret` neither value is told. `sends`: it changes who or what is
    sent, or to which workspace."""

    key: str
    old: Any
    new: Any
    secret: bool
    sends: bool
    restart: bool

    def __str__(self) -> str:
        return f"{self.key}: {self._what()}{' (after a restart)' if self.restart else ''}"

    def _what(self) -> str:
        if self.secret:
            return "changed"
        if isinstance(self.old, list) and isinstance(self.new, list):
            return _of_lists(self.old, self.new)
        return f"{_shown(self.old)} -> {_shown(self.new)}"


def changes(old: Settings, new: Settings) -> tuple[Change, ...]:
    """All keys that differ, in the order of the settings; of the segments, in the order of the file."""
    before, after = dict(written(old)), dict(written(new))
    found = []
    for where in dict.fromkeys((*before, *after)):
        one, other = before.get(where), after.get(where)
        # Repr too: 1, 1.0 and true are not the same condition.
        if one != other or repr(one) != repr(other):
            found.append(_change(where, one, other))
    stayed = [name for name in old.segments if name in new.segments]
    if (reordered := [name for name in new.segments if name in old.segments]) != stayed:
        # Nobody is in another segment by it, but the list of their segments is sent in this order.
        found.append(Change("segments", stayed, reordered, False, True, False))
    return tuple(found)


def words(found: Sequence[Change]) -> list[str]:
    """A sentence for each: what changes who or what is sent, then what takes effect at once, then what needs a
    restart."""
    in_order = sorted(found, key=lambda change: (change.restart, not change.sends))
    return [f"{change}{' (changes who or what is sent)' if change.sends else ''}" for change in in_order]


def needs_restart(old: Settings, new: Settings) -> tuple[str, ...]:
    """The keys that differ and take effect only after a restart, in the order of the settings."""
    return tuple(change.key for change in changes(old, new) if change.restart)


def written(settings: Settings) -> Iterator[tuple[Path, Any]]:
    """Every key with its value as a file would hold it, each segment and each name of an event a key of its own. Of a
    secret it is something that only tells whether it is another one (`is_secret`)."""
    return _flat(settings, ())


def is_secret(value: Any) -> bool:
    """Whether it stands for a secret, or several."""
    return isinstance(value, _Secret)


def _change(where: Path, old: Any, new: Any) -> Change:
    secret = is_secret(old) or is_secret(new)
    return Change(
        faults.written(where),
        None if secret else old,
        None if secret else new,
        secret,
        where[0] in _SENT_TABLES or where[:2] in _SENT_KEYS,
        where in _RESTART,
    )


class _Secret(NamedTuple):
    """So that two can be compared, and neither is told."""

    values: tuple[str, ...]

    def __repr__(self) -> str:
        return "…"


def _flat(table: BaseModel, where: Path) -> Iterator[tuple[Path, Any]]:
    """Every key below the table with its value, as a file holds it. Nested tables are keys of their own."""
    for name in type(table).model_fields:
        value = getattr(table, name)
        here = (*where, name)
        if isinstance(value, BaseModel):
            yield from _flat(value, here)
        elif isinstance(value, Mapping):
            for key, held in value.items():
                yield (*here, key), conditions.plain(held) if isinstance(held, conditions.Segment) else held
        else:
            yield here, _plain(value, here)


def _plain(value: Any, where: Path) -> Any:
    if isinstance(value, SecretStr):
        return _Secret((value.get_secret_value(),))
    if isinstance(value, tuple):
        if value and isinstance(value[0], SecretStr):
            return _Secret(tuple(each.get_secret_value() for each in value))
        return [_plain_pick(each) for each in value]
    if isinstance(value, timedelta):
        return values.duration_text(value)
    if value is None and where == ("store", "events"):
        return "forever"
    return "unlimited" if value is None and where[0] == "guard" else value


def _plain_pick(entry: Any) -> Any:
    if not isinstance(entry, BaseModel):
        return entry
    table = entry.model_dump(by_alias=True, exclude_defaults=True)
    return table["name"] if len(table) == 1 else table


def _of_lists(old: list[Any], new: list[Any]) -> str:
    """Long ones by what went and what came, as long as what stayed is in its old order."""
    whole = f"{_toml(old)} -> {_toml(new)}"
    stayed_in_order = [each for each in old if each in new] == [each for each in new if each in old]
    if len(whole) <= _SHORT or not stayed_in_order:
        return _cut(whole)
    gone = [f"- {_toml(each)}" for each in old if each not in new]
    came = [f"+ {_toml(each)}" for each in new if each not in old]
    return _cut(", ".join([*gone, *came]))


def _shown(value: Any) -> str:
    return "not set" if value is None else _cut(_toml(value))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _toml(value: Any) -> str:
    """On one line, as TOML writes it."""
    if isinstance(value, _BARE):
        return str(value).lower()
    if isinstance(value, str):
        return faults.quoted(value)
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{faults.written((key,))} = {_toml(held)}' for key, held in value.items())} }}"
    return f"[{', '.join(map(_toml, value))}]"
