"""What was said, against what the store and Customer.io have now. Pure: evidence in, cases out.

lost          webhook_lost, edit_lost, person_missing, person_left_behind, given_up, unread, not_settled
              event_lost
doubled       webhook_twice, webhook_never_sent, two_users, two_people, event_twice
out_of_order  older_after_newer, deleted_after_return, returned_to_old_state, event_out_of_order, event_without_person
wrong         attributes_differ, opt_out_undone, opt_out_invented, refused_there, event_wrong, event_not_wanted,
              event_never_told, event_refused
crashed       ended_by_itself, task_failed, unclean_stop

An event is what a user did and Customer.io is to get; what Customer.io reports is a webhook.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from connector.commands.prove import comparing_events
from connector.commands.prove.cases import Case
from connector.commands.prove.comparing_events import Arrived
from connector.commands.prove.happenings import History
from connector.commands.prove.stories import Story

OPT_OUT = "unsubscribed"


class Known(NamedTuple):
    """A user in the store. `has_to_be_out`: the opt-out is older than the person, who was created without it else."""

    external_id: str
    seq: int
    parked: str | None
    opted_out: bool
    has_to_be_out: bool


class Person(NamedTuple):
    """At the sandbox; the email is among the attributes."""

    customer_id: str
    attributes: dict[str, Any]


class Applied(NamedTuple):
    """An operation in the order applied, and why it had no effect, else None. `seq` is that of an identify that has
    one. `at` is in seconds."""

    at: float
    customer_id: str
    what: Literal["identify", "delete"]
    seq: int | None
    refused: str | None


@dataclass
class Evidence:
    """`stories` and `histories` are what was said. Ids of webhooks: `sent` were answered 200, `unanswered` were tried,
    `events` are in the store. `stored` is what the store says of the events of users."""

    stories: Mapping[str, Story]
    sent: set[str]
    events: Sequence[str]
    users: Sequence[Known]
    people: Sequence[Person]
    applied: Sequence[Applied]
    histories: Mapping[str, History] = field(default_factory=dict)
    stored: Mapping[str, str] = field(default_factory=dict)
    arrived: Sequence[Arrived] = ()
    unread: int = 0
    waiting: Sequence[str] = ()
    unanswered: Set[str] = frozenset()
    others: Sequence[Case] = field(default_factory=list)


def compare(evidence: Evidence) -> list[Case]:
    """All that is not as it has to be."""
    return [
        *_webhooks(evidence),
        *_users(evidence),
        *_people(evidence),
        *_order(evidence.stories, evidence.applied),
        *comparing_events.compare(evidence.histories, evidence.stored, evidence.arrived),
        *evidence.others,
    ]


def _webhooks(evidence: Evidence) -> Iterator[Case]:
    stored = Counter(evidence.events)
    yield from (Case("lost", "webhook_lost", each) for each in sorted(evidence.sent - stored.keys()))
    yield from (
        Case("doubled", "webhook_never_sent", each)
        for each in sorted(stored.keys() - evidence.sent - evidence.unanswered)
    )
    yield from (Case("doubled", "webhook_twice", each) for each, times in stored.items() if times > 1)
    if evidence.unread:
        yield Case("lost", "unread", "", f"{evidence.unread} messages could not be read")


def _users(evidence: Evidence) -> Iterator[Case]:
    found: dict[str, Known] = {}
    for user in evidence.users:
        if user.external_id in found:
            yield Case("doubled", "two_users", user.external_id)
        found[user.external_id] = user
        if user.parked is not None:
            yield Case("lost", "given_up", user.external_id, user.parked)
    for name, story in evidence.stories.items():
        seq = found[name].seq if name in found else 0
        if seq != story.said:
            yield Case("lost", "edit_lost", name, f"edit {story.said} was acknowledged, the store has {seq}")
    yield from (Case("lost", "not_settled", each) for each in evidence.waiting)


def _people(evidence: Evidence) -> Iterator[Case]:
    users = {user.external_id: user for user in evidence.users}
    found: dict[str, dict[str, Any]] = {}
    by_email: dict[str, str] = {}
    for person in evidence.people:
        first = by_email.setdefault(str(person.attributes.get("email", person.customer_id)), person.customer_id)
        if person.customer_id in found or first != person.customer_id:
            yield Case("doubled", "two_people", person.customer_id, f"and {first}")
        found[person.customer_id] = person.attributes
    for name, story in evidence.stories.items():
        wanted, has = story.person(), found.pop(name, None)
        if wanted is None:
            if has is not None:
                yield Case("lost", "person_left_behind", name, f"has {has}")
        elif has is None:
            yield Case("lost", "person_missing", name)
        else:
            yield from _attributes(name, wanted, has, users.get(name))
    yield from (Case("doubled", "two_people", each, "nobody was told of them") for each in found)


def _attributes(name: str, wanted: dict[str, Any], has: dict[str, Any], user: Known | None) -> Iterator[Case]:
    opted_out = has.get(OPT_OUT)
    rest = {key: value for key, value in has.items() if key != OPT_OUT}
    if rest != wanted:
        differ = sorted(key for key in wanted.keys() | rest.keys() if wanted.get(key) != rest.get(key))
        pairs = ", ".join(f"{key}: has {rest.get(key)!r}, must have {wanted.get(key)!r}" for key in differ)
        yield Case("wrong", "attributes_differ", name, pairs)
    if user is not None and user.has_to_be_out and opted_out is not True:
        yield Case("wrong", "opt_out_undone", name, f"unsubscribed is {opted_out!r}")
    if opted_out is not None and (user is None or not user.opted_out):
        yield Case("wrong", "opt_out_invented", name, f"unsubscribed is {opted_out!r}")


def _order(stories: Mapping[str, Story], applied: Iterable[Applied]) -> Iterator[Case]:
    """By each person's operations in the order applied. What came late and was dropped as older had no effect."""
    newest: dict[str, int] = {}
    deleted_at: dict[str, int] = {}  # the newest edit when they were deleted
    for each in applied:
        name, story = each.customer_id, stories.get(each.customer_id)
        if each.refused is not None:
            if each.refused not in _HARMLESS[each.what]:
                yield Case("wrong", "refused_there", name, f"{each.what}: {each.refused}")
            continue
        if story is None:
            continue
        if each.what == "delete":
            deleted_at[name] = newest.get(name, 0)
            if not story.leaves_after(deleted_at[name]):
                detail = f"deleted at {each.at:.3f} after edit {deleted_at[name]}, and no later one leaves"
                yield Case("out_of_order", "deleted_after_return", name, detail)
        elif each.seq is not None:
            if each.seq < newest.get(name, 0):
                detail = f"edit {each.seq} came at {each.at:.3f}, after {newest[name]}"
                yield Case("out_of_order", "older_after_newer", name, detail)
            elif name in deleted_at and each.seq <= deleted_at[name]:
                detail = f"edit {each.seq} came at {each.at:.3f}, after the delete"
                yield Case("out_of_order", "returned_to_old_state", name, detail)
            deleted_at.pop(name, None)
            newest[name] = max(each.seq, newest.get(name, 0))


# A repeat of what was sent before, or of a delete.
_HARMLESS: dict[str, frozenset[str]] = {
    "identify": frozenset({"older_timestamp"}),
    "delete": frozenset({"unknown_person"}),
}
