"""`connector segments [NAME] [--user ID]`: sizes; who is in one; which of its conditions hold for a user.

Whatever has arrived is read first. All of it is answered by the predicates that decide who is sent, as of now.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import typer

from connector import app, errors
from connector.commands import segments_text, terminal
from connector.inbound.reader import Reader
from connector.settings import Condition, Reference, Settings, conditions
from connector.settings.faults import did_you_mean, quoted
from connector.store import segments, story
from connector.store.database import Database

FIRST = 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a condition holds for a user, and the conditions that it is made of."""

    condition: Condition
    holds: bool
    inner: tuple[Verdict, ...]

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it; a condition of others has them under `of`."""
        told: dict[str, Any] = {"condition": segments_text.words(self.condition), "holds": self.holds}
        return told | ({"of": [each.as_json() for each in self.inner]} if self.inner else {})


def command(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The segment to look into.")] = None,
    user: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Which condition holds for them: an external_id, email or whatever names them."
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help=f"All members, not the first {FIRST}; with --json, one a line.")
    ] = False,
    settings: terminal.SettingsFile = None,
    as_json: terminal.AsJson = False,
) -> None:
    """Sizes of segments; a segment's members; which of its conditions holds for a user."""
    _, loaded = terminal.settings(context, settings)
    if name is not None and name not in loaded.segments:
        raise errors.Misconfigured(f"no segment is called {quoted(name)}{did_you_mean(name, loaded.segments)}")
    with terminal.store(loaded) as db:
        app.run(Reader(db, lambda: loaded, app.now).read_outstanding())
        now = app.now()
        if user is not None:
            _show_user(db, loaded, name, user, now, as_json)
        elif name is not None:
            _show_members(db, loaded, name, now, every, as_json)
        else:
            listed = [_about(each, size, loaded) for each, size in db.read(segments.sizes, loaded, now).items()]
            terminal.show(listed, segments_text.sizes(listed), as_json)


def _about(name: str, size: int, settings: Settings) -> dict[str, Any]:
    return {
        "name": name,
        "users": size,
        "whitelisted": name in settings.people.segments,
        "internal": settings.segments[name].internal,
    }


def _show_members(db: Database, settings: Settings, name: str, now: datetime, every: bool, as_json: bool) -> None:
    if every and as_json:
        for member in _members(db, settings, name, now):
            terminal.show(member, (), as_json)
        return
    about = _about(name, db.read(segments.size, name, settings, now), settings)
    if as_json:
        first = db.read(segments.members, name, settings, now, "", FIRST)
        terminal.show(about | {"members": [_member(each) for each in first]}, (), as_json)
        return
    terminal.show(None, segments_text.sizes([about]), as_json)
    members = _members(db, settings, name, now)
    for shown, member in enumerate(members):
        if shown == FIRST and not every:
            terminal.show(None, [f"… and {about['users'] - FIRST:,} more: --all shows them"], as_json)
            return
        terminal.show(None, [segments_text.member(member)], as_json)


def _members(db: Database, settings: Settings, name: str, now: datetime) -> Iterator[dict[str, Any]]:
    """All of them, a page at a time."""
    after = ""
    while page := db.read(segments.members, name, settings, now, after):
        yield from map(_member, page)
        after = page[-1][0]


def _member(row: tuple[str, str | None, str | None]) -> dict[str, Any]:
    return dict(zip(("id", "external_id", "email"), row, strict=True))


def _show_user(db: Database, settings: Settings, name: str | None, given: str, now: datetime, as_json: bool) -> None:
    """Of one segment every condition, of all of them only whether the user is in it."""
    matches = db.read(story.matches, given)
    if not matches:
        raise errors.Failed(f"nobody is known as {given}; tried as {', '.join(story.KINDS)}")
    user_id = matches[0].user_id
    if name is None:
        wanted = [segment.condition for segment in settings.segments.values()]
        inside = dict(zip(settings.segments, db.read(segments.holding, user_id, wanted, settings, now), strict=True))
        terminal.show({"user_id": user_id, "segments": inside}, segments_text.inside(inside), as_json)
        return
    verdict = explain(db, settings, name, user_id, now)
    data = {"user_id": user_id, "segment": name, **verdict.as_json()}
    terminal.show(data, segments_text.verdict(verdict), as_json)


def explain(db: Database, settings: Settings, name: str, user_id: str, now: datetime) -> Verdict:
    """The segment's condition and all that it is made of, each asked of the store for this user."""
    wanted: list[Condition] = []

    def collect(condition: Condition) -> None:
        wanted.append(condition)
        for each in _inner(condition, settings):
            collect(each)

    collect(settings.segments[name].condition)
    held = iter(db.read(segments.holding, user_id, wanted, settings, now))

    def judged(condition: Condition) -> Verdict:
        holds = next(held)
        return Verdict(condition, holds, tuple(judged(each) for each in _inner(condition, settings)))

    return judged(settings.segments[name].condition)


def _inner(condition: Condition, settings: Settings) -> Iterator[Condition]:
    if isinstance(condition, Reference):
        yield settings.segments[condition.segment].condition
    for _, each in conditions.inner(condition):
        yield each
