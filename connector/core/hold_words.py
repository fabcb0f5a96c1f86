"""What the guard holds, in words, and how to go on: the same in the log, `sync`, `plan` and `approve`."""

from __future__ import annotations

from collections.abc import Sequence

FIRST = 100  # so many show how it looks

_WHY = {
    "max_creates": "guard.max_creates leaves {allowed} in these 24 h",
    "max_deletes": "guard.max_deletes leaves {allowed} in these 24 h",
    "max_delete_share": "guard.max_delete_share leaves {allowed} in these 24 h",
    "max_events_per_user": "guard.max_events_per_user leaves {allowed} in these 24 h",
    "no_whitelist": "people.segments is empty",
    "other_customer_id": "people.customer_id is another one than at the last pass",
    "store_shrank": "the store has far fewer users than at an earlier pass",
}
_ONE = {
    "create": "1 user who was here before would be created",
    "delete": "1 person left every whitelisted segment and would be deleted",
    "rename": "the 1 person at Customer.io would get another id",
    "event": "1 event that waits for guard.max_events_per_user would go",
}
_MORE = {
    "create": "{count} users who were here before would be created",
    "delete": "{count} people left every whitelisted segment and would be deleted",
    "rename": "all {count} people at Customer.io would get another id",
    "event": "{count} events that wait for guard.max_events_per_user would go",
}


def would(what: str, count: int) -> str:
    """What would happen if it went; `what` as `store/held` names it."""
    return _ONE[what] if count == 1 else _MORE[what].format(count=f"{count:,}")


def events(count: int, users: int) -> str:
    """How many events of how many users wait for `guard.max_events_per_user`, and how long."""
    what = "1 event" if count == 1 else f"{count:,} events"
    whose = "1 user" if users == 1 else f"{users:,} users"
    return f"{what} of {whose}, more than may go in 24 h: until a day has room"


def why(reason: str, allowed: int) -> str:
    """Why it doesn't."""
    return _WHY[reason].format(allowed=f"{allowed:,}")


def commands(what: str, hold: str) -> Sequence[str]:
    """Those that let it go, by its hash: all of it, and where it has parts only some."""
    everything = f"connector approve {hold}"
    return [everything] if what == "rename" else [everything, f"{everything} --first {FIRST}"]
