"""The demo's results, as a person would like to read them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def describe(counted: dict[str, Any], *, right: bool) -> Iterator[str]:
    """What went which way and how it compares, a line each."""
    yield ""
    yield "Users out: our store -> Customer.io (a local one)"
    yield from _rows(
        (counted["users_imported"], "users imported from a file, and changed by a second one: ", "users_changed"),
        (counted["people_created"], "people created: users in a whitelisted segment, with an email", ""),
        (counted["people_updated"], "people updated: only what had changed was sent", ""),
        (counted["without_email"], "users skipped: they have no email", ""),
        (counted["calls"], "calls were enough; one more sync made: ", "calls_of_another_sync"),
        counted=counted,
    )
    yield ""
    yield "Events in: Customer.io -> our store"
    yield from _rows(
        (counted["webhooks_received"], "webhooks received, signature checked, stored before they were answered", ""),
        (counted["events_stored"], "events stored, each with its own time and user", ""),
        (counted["duplicates_refused"], "duplicates refused: the same event, delivered again", ""),
        (counted["forgeries_refused"], "forged webhook refused: signed with another key", ""),
        counted=counted,
    )
    for name, count in counted["event_names"].items():
        yield f"{count:>12,}  {name}"
    yield ""
    yield "Compared, attribute by attribute"
    yield f"{counted['people_expected']:>8,}  users with an email are in a whitelisted segment now"
    yield f"{counted['people_equal']:>8,}  of them are people at Customer.io with exactly these attributes"
    yield f"{counted['left_kept']:>8,}  more people are there: they left the segments and are kept, deletion is off"
    for customer_id in counted["different"][:10]:
        yield f"          different: {customer_id}"
    yield ""
    yield "All as it should be." if right else "NOT as it should be: see the numbers above."


def staying_up(sandbox: str, public: str, admin: str, settings: Path) -> str:
    """Where to look while the demo stays up."""
    return (
        f"\nThe connector still runs; Ctrl-C ends it and removes its folder.\n"
        f"  what Customer.io has   {sandbox}/sandbox/people\n"
        f"  what the connector is  {admin}/status\n"
        f"  its health             {public}/readyz\n"
        f"  its settings           {settings}\n"
        f"Change a segment in the settings and save: within seconds the people there change too."
    )


def _rows(*rows: tuple[int, str, str], counted: dict[str, Any]) -> Iterator[str]:
    for number, words, more in rows:
        yield f"{number:>8,}  {words}{counted[more] if more else ''}"
