"""What was said, against what the store and Customer.io have now. Pure: evidence in, cases out.

lost          webhook_lost, opt_out_lost, edit_lost, person_missing, person_left_behind, given_up, unread, not_settled,
              not_acknowledged, event_lost
doubled       webhook_twice, webhook_never_sent, two_users, two_people, event_twice
out_of_order  older_after_newer, deleted_after_return, returned_to_old_state, event_out_of_order, event_without_person,
              event_before_edit, twice_in_a_call, calls_overlap
wrong         attributes_differ, opt_out_undone, opt_out_invented, webhook_misread, refused_there, event_wrong,
              event_not_wanted, event_never_told, event_refused
crashed       ended_by_itself, task_failed, unclean_stop

An event is what a user did and Customer.io is to get; what Customer.io reports is a webhook.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from connector.commands.prove import comparing_events, comparing_webhooks
from connector.commands.prove.cases import Case
from connector.commands.prove.comparing_events import Arrived
from connector.commands.prove.comparing_webhooks import Filed, Said
from connector.commands.prove.happenings import History
from connector.commands.prove.stories import Story

OPT_OUT = "unsubscribed"

_AT_ONCE_SECONDS = 10  # who opts out so shortly before the person is made may have done so as that person


class Known(NamedTuple):
    """A user in the store."""

    external_id: str
    seq: int
    parked: str | None
    opted_out: bool


class Person(NamedTuple):
    """At the sandbox, made there at that time in unix seconds; the email is among the attributes."""

    customer_id: str
    attributes: dict[str, Any]
    created: int


class Applied(NamedTuple):
    """An operation in the order applied, and why it had no effect, else None. `seq` is that of an identify that has
    one. `at` is in seconds. `opts_out`: what it says of it, None when nothing."""

    at: float
    customer_id: str
    what: Literal["identify", "delete"]
    seq: int | None
    refused: str | None
    opts_out: bool | None = None


@dataclass
class Evidence:
    """`stories` and `histories` are what was said. Webhooks: `sent` were answered 200, `unanswered` were tried, by
    their ids, `filed` are in the store. `stored` is what the store says of the events of users."""

    stories: Mapping[str, Story]
    sent: Mapping[str, Said]
    filed: Sequence[Filed]
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
        *comparing_webhooks.compare(evidence.sent, evidence.unanswered, evidence.filed),
        *_users(evidence),
        *_people(evidence),
        *_opt_outs(evidence),
        *_order(evidence.stories, evidence.applied),
        *comparing_events.compare(evidence.histories, evidence.stories, evidence.stored, evidence.arrived),
        *evidence.others,
    ]


def _users(evidence: Evidence) -> Iterator[Case]:
    if evidence.unread:
        yield Case("lost", "unread", "", f"{evidence.unread} messages could not be read")
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
            yield from _attributes(name, wanted, has)
    yield from (Case("doubled", "two_people", each, "nobody was told of them") for each in found)


def _attributes(name: str, wanted: dict[str, Any], has: dict[str, Any]) -> Iterator[Case]:
    rest = {key: value for key, value in has.items() if key != OPT_OUT}
    if rest != wanted:
        differ = sorted(key for key in wanted.keys() | rest.keys() if wanted.get(key) != rest.get(key))
        pairs = ", ".join(f"{key}: has {rest.get(key)!r}, must have {wanted.get(key)!r}" for key in differ)
        yield Case("wrong", "attributes_differ", name, pairs)


def _opt_outs(evidence: Evidence) -> Iterator[Case]:
    """Nobody subscribes again: who opted out stays out, also as a person who is made later."""
    said = comparing_webhooks.opted_out(evidence.sent)
    stored = {user.external_id: user.opted_out for user in evidence.users}
    for name, at in said.items():
        if not stored.get(name, False):
            yield Case("lost", "opt_out_lost", name, f"said at {at} and acknowledged, the store doesn't have it")
    for name, is_out in stored.items():
        if is_out and name not in said:
            yield Case("wrong", "opt_out_invented", name, "the store has it, and nobody said it")
    for person in evidence.people:
        name, has = person.customer_id, person.attributes.get(OPT_OUT)
        if has is None and name in said and said[name] + _AT_ONCE_SECONDS < person.created:
            yield Case("wrong", "opt_out_undone", name, f"said at {said[name]}, made without it at {person.created}")
        if has is not None and name not in said:
            yield Case("wrong", "opt_out_invented", name, f"unsubscribed is {has!r}")
    for each in evidence.applied:
        if each.opts_out is False:
            yield Case("wrong", "opt_out_undone", each.customer_id, f"taken back at {each.at:.3f}")


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
