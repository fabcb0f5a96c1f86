"""What a pass would do, added up: decisions by reason, the first people by name, and what sending them takes.

    Look (one user, decided and encoded) -> Draft.add, some at a time -> Draft.finish (what the guard holds) -> Plan

What the guard says of creates and of deletes is known only when everybody has been looked at. Until then those who
wait for it are counted apart, and the calls in every way in which it can turn out, so nothing has to be kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from connector.core import encode, mapping
from connector.records import Decision

Guarded: TypeAlias = Literal["create", "delete"]

HELD = "held"

# On what the guard has a word, and the reason of those it lets go.
REASONS: dict[Guarded, str] = {"create": "entered", "delete": "left"}
_WAYS: tuple[frozenset[Guarded], ...] = (
    frozenset(),
    frozenset({"create"}),
    frozenset({"delete"}),
    frozenset({"create", "delete"}),
)
_SHOWN_FIRST = ("delete", "update", "create")


@dataclass(frozen=True, slots=True)
class Look:
    """One user as the plan found them. `before` is what Customer.io has of them, `work` what would be sent, `guarded`
    the kind on which the guard has a word first."""

    user_id: str
    customer_id: str | None
    decision: Decision
    before: Mapping[str, Any]
    work: encode.Work
    guarded: Guarded | None = None


@dataclass(frozen=True, slots=True)
class Person:
    """One user by name; `changes` are the attributes that would be sent, each with its value before and after, and all
    visitors who would be told to be this user."""

    user_id: str
    customer_id: str | None
    decision: str
    reason: str
    changes: dict[str, tuple[Any, Any]]


class Sending(NamedTuple):
    """What goes over the wire; the bytes are those of the bodies."""

    operations: int
    calls: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """`decisions` are users by verb and reason, `people` the first of those who would be sent.

    `left_out` says of how many people an attribute is left out, by its name and the reason; `emptied` of how many one
    goes that Customer.io has now; `emails_by_id` how many get another email without a `cio_id` to address them by.
    """

    decisions: dict[str, dict[str, int]]
    people: list[Person]
    sending: Sending
    left_out: dict[tuple[str, str], int]
    emptied: dict[str, int]
    emails_by_id: int


def person(look: Look, held: Set[Guarded]) -> Person:
    """The user by name, where the guard holds these kinds."""
    decision = look.decision
    changes = {name: (look.before.get(name), value) for name, value in decision.changes.items()}
    if decision.anonymous_ids:
        changes[mapping.ANONYMOUS_ID] = None, list(decision.anonymous_ids)
    reason = HELD if look.guarded in held else decision.reason
    return Person(look.user_id, look.customer_id, decision.verb, reason, changes)


@dataclass
class _Calls:
    """The fewest calls that take some works, in their order."""

    single: bool
    operations: int = 0
    size: int = 0
    full: int = 0
    last: list[encode.Work] = field(default_factory=list)

    def add(self, works: Sequence[encode.Work]) -> None:
        self.operations += sum(len(work.parts) for work in works)
        self.size += sum(len(part) for work in works for part in work.parts)
        if works and not self.single:
            *full, self.last = encode.batches([*self.last, *works])
            self.full += len(full)

    def total(self) -> Sending:
        if self.single:
            return Sending(self.operations, self.operations, self.size)
        calls = self.full + (1 if self.last else 0)
        commas = self.operations - calls
        return Sending(self.operations, calls, self.size + commas + calls * encode.ENVELOPE_BYTES)


class Draft:
    """A plan in the making. It names the first `most` people, or `only` one user, whatever is due for them."""

    def __init__(self, *, api: str, most: int, only: str | None = None) -> None:
        self._most, self._only = most, only
        self._decisions: Counter[tuple[str, str]] = Counter()
        self._waiting: Counter[Guarded] = Counter()
        self._left_out: Counter[tuple[str, str, Guarded | None]] = Counter()
        self._emptied: Counter[str] = Counter()
        self._emails_by_id = 0
        self._calls = {way: _Calls(api == "single") for way in _WAYS}
        self._named: dict[str, list[Look]] = {}

    def skip(self, reason: str, users: int) -> None:
        """So many users whose reason is plain without a look at each."""
        self._decisions["skip", reason] += users

    def add(self, looks: Sequence[Look]) -> None:
        """Some more users."""
        sent = [look for look in looks if look.work.parts]
        for look in looks:
            if look.guarded is None:
                self._decisions[look.decision.verb, look.decision.reason] += 1
            else:
                self._waiting[look.guarded] += 1
            if look.user_id == self._only:
                self._named["only"] = [look]
        for look in sent:
            self._note(look)
        for let_go, calls in self._calls.items():
            calls.add([look.work for look in sent if look.guarded is None or look.guarded in let_go])

    def waiting(self, kind: Guarded) -> int:
        """On how many of them the guard has its word."""
        return self._waiting[kind]

    def finish(self, held: Set[Guarded]) -> Plan:
        """The plan, where the guard holds these kinds."""
        decisions = self._decisions.copy()
        for kind, reason in REASONS.items():
            decisions[kind, HELD if kind in held else reason] += self._waiting[kind]
        by_verb: dict[str, dict[str, int]] = {}
        for (verb, reason), users in sorted(decisions.items(), key=lambda entry: (-entry[1], entry[0])):
            if users:
                by_verb.setdefault(verb, {})[reason] = users
        left_out: Counter[tuple[str, str]] = Counter()
        for (name, reason, guarded), users in self._left_out.items():
            left_out[name, reason] += 0 if guarded in held else users
        first = [look for verb in ("only", *_SHOWN_FIRST) for look in self._named.get(verb, ())][: self._most]
        let_go = frozenset(REASONS) - held
        return Plan(
            by_verb,
            [person(look, held) for look in first],
            self._calls[let_go].total(),
            dict(+left_out),
            dict(self._emptied.most_common()),
            self._emails_by_id,
        )

    def _note(self, look: Look) -> None:
        decision = look.decision
        self._left_out.update((each.name, each.reason, look.guarded) for each in decision.left_out)
        self._emptied.update(name for name, value in decision.changes.items() if value is None)
        by_id = decision.customer_id is not None and decision.customer_id.kind == "id"
        self._emails_by_id += decision.verb == "update" and "email" in decision.changes and by_id
        if self._only is None and len(first := self._named.setdefault(decision.verb, [])) < self._most:
            first.append(look)
