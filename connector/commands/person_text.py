"""`connector person` in words, a line each. What the data say stands there as JSON, so that no text of theirs can
move the cursor or pass for a line of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from connector.store import database
from connector.store.pending import DELETES


def describe(told: Mapping[str, Any]) -> Iterator[str]:
    """The story that `person.tell` tells."""
    if "erased_at" in told:
        yield f"erased      {_time(told['erased_at'])}, found by {told['named_by']}"
        yield from _due(told["decision"])
        return
    user = told["user"]
    yield f"user        {user['id']}, found by {told['named_by']}"
    for loser in told["merged"]:
        yield f"merged      {loser} turned out to be this one"
    for other in told["also"]:
        yield f"also        the {other['named_by']} of user {other['user_id']}: connector person {other['user_id']}"
    yield from _who(user)
    whitelisted = ("sent", "not whitelisted")
    for segment in told["segments"]:
        yield f"segment     {quoted(segment['name'])} ({whitelisted[0 if segment['whitelisted'] else 1]})"
    if not told["segments"]:
        yield "segment     none"
    yield ""
    yield from _due(told["decision"])
    yield from _sent(told["sent"])
    yield from _pending(told["pending"]) if told["parked"] is None else _parked(told)
    yield from _conflicts(told["conflicts"])
    yield from _lately(told)


def _who(user: Mapping[str, Any]) -> Iterator[str]:
    origin = {"own": "your own data", "customerio": "Customer.io's webhooks only"}
    yield f"known from  {origin.get(user['known_by'], user['known_by'])}"
    for each in user["identifiers"]:
        yield f"{each['kind']:<11} {quoted(each['value'])}"
    for kind in ("external_id", "email"):
        # In other letters than the identifier, or without one: SQL wrote it, or it is another user's.
        if user[kind] is not None and {"kind": kind, "value": user[kind]} not in user["identifiers"]:
            yield f"{kind:<11} {quoted(user[kind])} (as given)"
    yield f"created     {_time(user['created_at']) or 'not told'}"
    yield f"first seen  {_time(user['first_seen_at'])}, last changed {_time(user['updated_at'])}"
    since = f" since {_time(user['opt_changed_at'])}" if user["opt_changed_at"] is not None else ""
    yield f"opted out   {'yes' if user['opted_out'] else 'no'}{since}"
    for group, entries in user["preferences"].items():
        for name, wanted in entries.items():
            yield f"preference  {quoted(group)} {quoted(name)}: {'wanted' if wanted else 'not wanted'}"
    for fact, at in user["customerio"].items():
        yield f"customerio  {fact} {_time(at)}"
    for name, value in user["attributes"].items():
        yield f"attribute   {quoted(name)} = {quoted(value)}"


def _due(decision: Mapping[str, Any]) -> Iterator[str]:
    yield f"decision    {decision['decision']}: {decision['reason']}"
    yield f"  remedy    {decision['remedy']}"
    if decision.get("until") is not None:
        yield f"  until     {_time(decision['until'])}"
    for name, (before, after) in decision.get("changes", {}).items():
        yield f"  change    {quoted(name)}: {quoted(before)} -> {quoted(after)}"
    for each in decision.get("left_out", ()):
        yield f"  left out  {quoted(each['name'])}: {each['reason']} ({each['message']})"


def _sent(sent: Mapping[str, Any] | None) -> Iterator[str]:
    if sent is None:
        yield "last sent   never"
        return
    known_as = f"{sent['id_kind']} {quoted(sent['customer_id'])}"
    if sent["deleted_at"] is not None:
        yield f"last sent   deleted {_time(sent['deleted_at'])}, until then {known_as}"
        return
    left = f", left every whitelisted segment {_time(sent['left_at'])}" if sent["left_at"] is not None else ""
    yield f"last sent   {_time(sent['synced_at'])} as {known_as}, created {_time(sent['created_at'])}{left}"
    for name, value in sent["attributes"].items():
        yield f"  sent      {quoted(name)} = {quoted(value)}"


def _pending(pending: Mapping[str, Any] | None) -> Iterator[str]:
    if pending is None:
        yield "pending     no"
        return
    when = "in flight" if pending["in_flight"] else f"due {_time(pending['due_at'])}"
    yield f"pending     {when}{_tries(pending)}"


def _tries(pending: Mapping[str, Any]) -> str:
    tries = ""
    if pending["attempts"]:
        number = "1 failed try" if pending["attempts"] == 1 else f"{pending['attempts']} failed tries"
        tries = f", {number} since {_time(pending['failing_since'])}"
    reason = f": {pending['reason']}" if pending["reason"] else ""
    what = "delete" if pending["release"] in DELETES else "create"
    release = f" ({what} let go: {pending['release']})" if pending["release"] else ""
    return f"{tries}{reason}{release}"


def _parked(told: Mapping[str, Any]) -> Iterator[str]:
    parked = told["parked"]
    yield f"parked      {_time(parked['since'])}{_tries(told['pending'])}"
    if parked["what"] is not None:
        yield f"  answer    {parked['what']}:{_status(parked)} {quoted(parked['message'])}"
    if parked["remedy"] != told["decision"]["remedy"]:
        yield f"  remedy    {parked['remedy']}"


def _conflicts(conflicts: list[dict[str, Any]]) -> Iterator[str]:
    for each in conflicts:
        owner = f"is user {each['user_id']}'s" if each["user_id"] is not None else "was another user's"
        times = f"given {each['count']} times, last" if each["count"] > 1 else "given"
        yield f"conflict    {each['kind']} {quoted(each['value'])} {owner} ({times} {_time(each['last_at'])})"
        yield f"  remedy    {each['remedy']}"


def _lately(told: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    for each in told["events"]:
        what = f"{each['type']} {quoted(each['name'])}{_fate(each)}"
        yield f"event {_direction(each)}   {_time(each['occurred_at'])} {what}"
    if told["more_events"]:
        yield "            older ones with --all"
    if not told["events"]:
        yield "event       none"
    for each in told["attempts"]:
        answer = f"{each['reason']}{_status(each)} {quoted(each['message'])}"
        yield f"attempt     {_time(each['at'])} {each['what']}: {answer}"
    if told["more_attempts"]:
        yield "            older ones with --all"


def _status(attempt: Mapping[str, Any]) -> str:
    return f" {attempt['status']}" if attempt["status"] is not None else ""


def _direction(event: Mapping[str, Any]) -> str:
    if event["source"] == "customerio":
        return "in "
    return "own" if event["outbound"] == "none" else "out"


def _fate(event: Mapping[str, Any]) -> str:
    reason = f" ({event['reason']})" if event["reason"] else ""
    return f" by {event['source']}" + (f": {event['outbound']}{reason}" if event["outbound"] != "none" else "")


def quoted(value: Any) -> str:
    """As JSON, with everything escaped that isn't plain to see."""
    text = database.dumps(value)
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in text)


def _time(at: datetime | None) -> str:
    return f"{at.replace(tzinfo=None).isoformat(' ', 'seconds')} UTC" if at is not None else ""
