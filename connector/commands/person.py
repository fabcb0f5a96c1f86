"""`connector person ID`: one user's whole story, both directions, and why they are not sent, with the remedy.

The ID is looked up as everything that can name a user. The decision is the worker's own, made now and not sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from msgspec.structs import replace
from sqlalchemy.engine import Connection

from connector import app, errors
from connector.commands import person_text, remedies, terminal
from connector.core import decide, erased, mapping, ulid
from connector.inbound.reader import Reader
from connector.outbound import preparation
from connector.outbound.preparation import AWAITS_PASS
from connector.records import CustomerId, Decision, Subject
from connector.settings import Settings
from connector.store import database, erasure, event_counts, held, kept_out, mirror, story, users
from connector.store.database import Database
from connector.store.kept_out import Kept
from connector.store.story import Match, Story

NEWEST = 20


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What is decided for the user, and what to do about it."""

    decision: Decision
    remedy: str
    rival: str | None


def command(
    context: typer.Context,
    given: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="Our id, external_id, email, anonymous_id, customer id or cio_id, tried in this order."
        ),
    ],
    every: Annotated[bool, typer.Option("--all", help=f"Not only the newest {NEWEST} events and attempts.")] = False,
    settings: terminal.SettingsFile = None,
    as_json: terminal.AsJson = False,
) -> None:
    """One user's whole story: who they are, what is due and why (not), what was sent, what they did."""
    _, loaded = terminal.settings(context, settings)
    with terminal.store(loaded) as db:
        app.run(Reader(db, lambda: loaded, app.now).read_outstanding())
        told = tell(db, loaded, given, None if every else NEWEST, app.now())
    terminal.show(told, person_text.describe(told), as_json)


def tell(db: Database, settings: Settings, given: str, newest: int | None, now: datetime) -> dict[str, Any]:
    """The story as `--json` prints it, with so many events and attempts (None: all); of somebody who was erased that,
    and nothing else. Raises Failed when the ID names nobody."""
    (found, stored, subjects) = db.read(_find, settings, given, now)
    if not found or stored is None:
        return _erased(db.read(kept_out.of_value, given), given)
    named, *others = found
    (subject,) = preparation.with_rivals(db, subjects, settings, now)
    events = story.newest_events(db, named.user_id, None if newest is None else newest + 1)
    attempts = story.newest_attempts(db, named.user_id, None if newest is None else newest + 1)
    return {
        "named_by": named.kind,
        "merged": list(named.path[:-1]),
        "also": [{"named_by": each.kind, "user_id": each.user_id} for each in others],
        "user": _user(stored),
        "segments": [
            {"name": name, "whitelisted": name in settings.people.segments}
            for name in mapping.memberships(subject.segment_bits, settings)
        ],
        "decision": _decision(_judge(db, settings, subject, stored, now), subject),
        "sent": _sent(subject),
        "pending": _pending(stored, now),
        "parked": _parked(stored, story.newest_attempts(db, named.user_id, 1)),
        "conflicts": _conflicts(stored),
        "events": [_event(each, stored) for each in events[:newest]],
        "more_events": newest is not None and len(events) > newest,
        "attempts": [_attempt(each) for each in attempts[:newest]],
        "more_attempts": newest is not None and len(attempts) > newest,
    }


def _erased(kept: Sequence[Kept], given: str) -> dict[str, Any]:
    if not kept:
        raise errors.Failed(
            f"nobody is known as {given}; tried as {', '.join(story.KINDS)} "
            "(whom plain SQL wrote gets names by the next full pass)"
        )
    return {
        "named_by": kept[0].kind,
        "erased_at": kept[0].at,
        "decision": {"decision": "skip", "reason": erased.ERASED, "remedy": remedies.REMEDIES[erased.ERASED]},
    }


def _find(
    connection: Connection, settings: Settings, given: str, now: datetime
) -> tuple[list[Match], Story | None, list[Subject]]:
    """As of one moment: in the next one they may be merged away. No story when the ID names nobody."""
    database.as_of_now(connection)
    found = story.matches(connection, given)
    if not found:
        return [], None, []
    user_id = found[0].user_id
    return found, story.of_user(connection, user_id), users.subjects(connection, [user_id], settings, now)


def _judge(db: Database, settings: Settings, subject: Subject, stored: Story, now: datetime) -> _Verdict:
    due = decide.decide(subject, settings, now)
    release = None if stored.pending is None else stored.pending["release"]
    may_rename = preparation.may_rename(db, settings)
    decision = preparation.judge(subject, settings, now, release, may_rename=may_rename)
    if decision.reason == AWAITS_PASS:
        decision = replace(due, verb="skip", reason="held" if stored.is_held else AWAITS_PASS)
    rival = _rival(db, settings, subject)
    words = remedies.RENAMING if decision.renamed else remedies.REMEDIES[decision.reason]
    hold = stored.hold
    if decision.verb == "skip" and due.renamed is not None and not may_rename:
        hold = next(iter(db.read(held.current, held.RENAME)), None)
        is_good = hold is not None and hold.valid(settings.sent_hash(), now)
        words = remedies.RENAME_HELD if is_good else remedies.RENAME_UNSEEN
    if subject.erased and subject.user.id in db.read(erasure.begun):
        words = remedies.ERASING
    if decision.verb != "skip" and not settings.customerio.site_id:
        words = remedies.NO_CREDENTIALS
    elif decision.verb != "skip" and stored.pending is not None and stored.pending["attempts"]:
        words = _of_failures(stored.pending)
    elif decision.reason == "held" and hold is not None and hold.valid(settings.sent_hash(), now):
        words = remedies.HELD_NOW
    sent_as = decision.customer_id
    remedy = words.format(
        user_id=subject.user.id,
        customer_id_from=", else ".join(settings.people.customer_id),
        rival=rival,
        sent_as=f"the {sent_as.kind} {person_text.quoted(sent_as.value)}" if sent_as is not None else "",
        merged_into=subject.user.merged_into,
        every=f"{settings.sync.every.total_seconds():,.0f} s",
        hash=hold.hash if hold is not None else "",
        failure=stored.pending["reason"] if stored.pending is not None else "",
    )
    return _Verdict(decision, remedy, rival)


def _of_failures(waiting: Mapping[str, Any]) -> str:
    """The remedy for who is pending, and could not be delivered so far."""
    if waiting["parked_at"] is None:
        return remedies.FAILING
    return remedies.PARKED_REFUSED if waiting["reason"] == "refused" else remedies.PARKED


def _rival(db: Database, settings: Settings, subject: Subject) -> str | None:
    """Who has the customer id that this user would get."""
    customer_id = mapping.customer_id(subject.user, settings)
    if not subject.taken or not isinstance(customer_id, CustomerId):
        return None
    return db.read(mirror.owners, [customer_id.value]).get(customer_id.value)


def _user(stored: Story) -> dict[str, Any]:
    user = stored.user
    names = (
        *("id", "external_id", "email", "known_by", "created_at", "first_seen_at", "updated_at", "attributes"),
        *("opted_out", "opt_changed_at"),
    )
    preferences = {
        group: {name: wanted for name, (wanted, _) in entries.items()} for group, entries in user["preferences"].items()
    }
    return {
        **{name: user[name] for name in names},
        "preferences": preferences,
        "customerio": {name: _second(at) for name, at in user["customerio"].items()},
        "identifiers": [{"kind": each.kind, "value": each.value} for each in stored.identifiers],
    }


def _second(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _decision(verdict: _Verdict, subject: Subject) -> dict[str, Any]:
    decision = verdict.decision
    before = subject.mirror.attributes if subject.mirror is not None else {}
    visitors = {mapping.ANONYMOUS_ID: [None, list(decision.anonymous_ids)]} if decision.anonymous_ids else {}
    return {
        "decision": decision.verb,
        "reason": decision.reason,
        "remedy": verdict.remedy,
        "rival": verdict.rival,
        "until": decision.until,
        "customer_id": decision.customer_id.value if decision.customer_id is not None else None,
        "changes": {name: [before.get(name), value] for name, value in decision.changes.items()} | visitors,
        "left_out": [{"name": each.name, "reason": each.reason, "message": each.message} for each in decision.left_out],
    }


def _sent(subject: Subject) -> dict[str, Any] | None:
    sent = subject.mirror
    if sent is None:
        return None
    return {
        "customer_id": sent.customer_id,
        "id_kind": sent.id_kind,
        "attributes": sent.attributes,
        "created_at": sent.created_at,
        "synced_at": sent.synced_at,
        "left_at": sent.left_at,
        "deleted_at": sent.deleted_at,
    }


def _pending(stored: Story, now: datetime) -> dict[str, Any] | None:
    waiting = stored.pending
    if waiting is None:
        return None
    kept = ("due_at", "attempts", "failing_since", "reason", "release")
    in_flight = waiting["lease"] is not None and waiting["due_at"] > now
    return {**{name: waiting[name] for name in kept}, "in_flight": in_flight}


def _parked(stored: Story, newest: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Since when and why nothing is tried any more, and the last try; of that nothing when it isn't known."""
    waiting = stored.pending
    if waiting is None or waiting["parked_at"] is None:
        return None
    last = next((each for each in newest if each["at"] >= waiting["parked_at"]), {})
    remedy = _of_failures(waiting).format(user_id=waiting["user_id"], failure=waiting["reason"])
    said = {name: last.get(name) for name in ("what", "calls", "status", "message")}
    return {"since": waiting["parked_at"], "reason": waiting["reason"], **said, "remedy": remedy}


def _conflicts(stored: Story) -> list[dict[str, Any]]:
    return [
        {
            "kind": each.identifier.kind,
            "value": each.identifier.value,
            "user_id": each.owner,
            "first_at": each.first_at,
            "last_at": each.last_at,
            "count": each.count,
            "remedy": remedies.CONFLICT_IS_OVER
            if each.owner is None
            else remedies.CONFLICT.format(kind=each.identifier.kind),
        }
        for each in stored.conflicts
    ]


def _event(row: dict[str, Any], of: Story) -> dict[str, Any]:
    derived = ulid.activity_id(row["source"], row["source_id"], row["occurred_at"])
    event = {name: value for name, value in row.items() if name != "user_id"}
    if event["outbound"] == "due" and of.pending is not None and of.pending["parked_at"] is not None:
        event["reason"] = event_counts.USER_PARKED
    return event | {"activity_id": row["activity_id"] or derived}


def _attempt(stored: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in stored.items() if name not in ("id", "user_id")}
