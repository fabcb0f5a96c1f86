"""The decision table: each row, which of two rows goes first, and what no row may ever do."""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from connector.core import decide, learnt, mapping
from connector.records import CustomerId, Damaged, Decision, Learnt, Mirror, Preference, Subject, User, Word
from connector.settings import Events, Settings
from tests.core.given import NOW, NOW_SECONDS, NOWHERE, OTHER, VIP, mirror, settings, user, values

SENT: dict[str, Any] = {"email": "ann@example.com", "hull_segments": ["VIP"]}
ANN = CustomerId("id", "42")
CREATED = datetime(2025, 6, 1, tzinfo=UTC)
DELETED = {"enabled": True, "blind": True}
GRACE, SECOND = timedelta(hours=24), timedelta(seconds=1)
BEFORE_CREATE, AFTER_CREATE = CREATED - timedelta(days=1), CREATED + timedelta(days=1)


def decided(
    given_user: User,
    *,
    bits: str = VIP,
    sent: Mirror | None = None,
    taken: bool = False,
    by: Settings | None = None,
    now: datetime = NOW,
) -> Decision:
    return decide.decide(Subject(given_user, bits, sent, taken), by or settings(), now)


def verdict(decision: Decision) -> tuple[str, str]:
    return decision.verb, decision.reason


# One test for each row of the table.


def test_who_was_merged_into_another_is_not_touched_whatever_else_holds() -> None:
    for sent in (None, mirror(SENT)):
        assert decided(user(merged_into="another"), sent=sent) == Decision("skip", "merged")
        assert decided(user(merged_into="another"), bits=NOWHERE, sent=sent) == Decision("skip", "merged")


def test_in_no_segment_without_a_mirror_there_is_nothing_to_do() -> None:
    assert decided(user(), bits=NOWHERE) == Decision("skip", "not_in_segment")


def test_a_segment_that_is_not_whitelisted_counts_for_nothing() -> None:
    assert decided(user(), bits=OTHER) == Decision("skip", "not_in_segment")


def test_who_left_every_segment_is_kept_as_they_are() -> None:
    assert decided(user(email="new@example.com"), bits=OTHER, sent=mirror(SENT)) == Decision("skip", "left_kept", ANN)


def test_who_leaves_waits_out_the_grace_from_when_that_was_seen() -> None:
    by = settings(delete=DELETED)
    for left_at, until in ((None, NOW + GRACE), (NOW, NOW + GRACE), (NOW - GRACE + SECOND, NOW + SECOND)):
        decision = decided(user(), bits=NOWHERE, sent=mirror(SENT, left_at=left_at), by=by)
        assert decision == Decision("postpone", "leaving", ANN, until=until)


def test_who_left_longer_ago_than_the_grace_is_deleted_under_the_id_that_was_sent() -> None:
    by = settings(delete=DELETED | {"grace": "1h"})
    sent = mirror(SENT, left_at=NOW - timedelta(hours=1))
    for given_user in (user(), user(external_id="43"), user(external_id=None), user(known_by="customerio")):
        for taken in TRUTHS:
            decision = decided(given_user, bits=OTHER, sent=sent, taken=taken, by=by)
            assert decision == Decision("delete", "left", ANN, timestamp=NOW_SECONDS)


def test_who_was_deleted_is_nobody_to_customerio() -> None:
    by, gone = settings(delete=DELETED), mirror(SENT, left_at=NOW - 2 * GRACE, deleted_at=NOW - GRACE)

    assert decided(user(), bits=NOWHERE, sent=gone, by=by) == Decision("skip", "not_in_segment")
    assert decided(user(email=None), sent=gone, by=by) == Decision("skip", "no_email")


def test_who_comes_back_after_a_delete_is_created_with_everything_when_a_minute_has_gone_by() -> None:
    gone = mirror({}, sent_ts=NOW_SECONDS + 7, deleted_at=NOW - timedelta(seconds=60))
    decision = decided(user(), sent=gone)

    assert decision == Decision("create", "entered", ANN, None, SENT, SENT, timestamp=NOW_SECONDS + 8)
    moment = timedelta(milliseconds=1)
    waiting = replace(gone, deleted_at=NOW - 60 * SECOND + moment)
    assert decided(user(), sent=waiting) == Decision("postpone", "just_deleted", ANN, until=NOW + moment)


def test_who_is_suppressed_or_erased_is_not_touched_whatever_else_holds() -> None:
    for bits in (VIP, NOWHERE):
        for sent in (mirror(SENT, suppressed_at=NOW), mirror({}, suppressed_at=NOW, deleted_at=NOW)):
            assert decided(user(), bits=bits, sent=sent) == Decision("skip", "suppressed")
        for known in (None, mirror(SENT)):
            subject = Subject(user(), bits, known, erased=True)
            assert decide.decide(subject, settings(), NOW) == Decision("skip", "erased")


def test_who_is_known_only_from_webhooks_is_not_sent_back() -> None:
    assert decided(user(known_by="customerio")) == Decision("skip", "only_from_customerio")


def test_without_a_customer_id_nobody_enters() -> None:
    assert decided(user(external_id=None)) == Decision("skip", "no_customer_id")


def test_with_a_value_that_cannot_be_an_id_nobody_enters() -> None:
    assert decided(user(external_id="..")) == Decision("skip", "bad_customer_id")


def test_nobody_enters_as_someone_else() -> None:
    assert decided(user(), taken=True) == Decision("skip", "customer_id_taken")


def test_without_an_email_nobody_enters_where_one_is_required() -> None:
    assert decided(user(email=None)) == Decision("skip", "no_email")
    assert decided(user(email="")) == Decision("skip", "no_email")
    assert verdict(decided(user(email=None), by=settings(require_email=False))) == ("create", "entered")


def test_who_entered_is_created_with_all_attributes() -> None:
    decision = decided(user(attributes={"plan": "pro", "age": 3}), by=settings(attributes=["plan"]))

    attributes = {**SENT, "plan": "pro"}
    assert decision == Decision("create", "entered", ANN, None, attributes, attributes, timestamp=NOW_SECONDS)


def test_a_customer_id_that_has_been_looked_at_is_taken_as_it_was_found() -> None:
    for found, sent, expected in (
        ("bad_customer_id", None, ("skip", "bad_customer_id")),
        (CustomerId("id", "another"), None, ("create", "entered")),
        (CustomerId("id", "another"), mirror(SENT), ("skip", "customer_id_changed")),
    ):
        decision = decide.decide(Subject(user(), VIP, sent, customer_id=found), settings(), NOW)
        assert verdict(decision) == expected
        assert sent is not None or decision.customer_id == (found if isinstance(found, CustomerId) else None)


def test_who_has_another_customer_id_now_is_not_touched() -> None:
    decision = decided(user(external_id="43"), sent=mirror(SENT))

    assert decision == Decision("skip", "customer_id_changed", CustomerId("id", "42"))


def test_whose_create_was_never_heard_of_is_made_under_the_id_it_went_out_with() -> None:
    begun = mirror({}, unsure="*")
    decision = decided(user(external_id="43"), sent=begun)

    assert (verdict(decision), decision.customer_id) == (("update", "unsure"), ANN)
    assert decided(user(external_id=".."), sent=begun) == Decision("skip", "customer_id_changed", ANN)
    heard_of = mirror(SENT, unsure="*")
    assert decided(user(external_id="43"), sent=heard_of) == Decision("skip", "customer_id_changed", ANN)


def renaming(given_user: User, sent: Mirror, *, by: Settings | None = None, taken: bool = False) -> Decision:
    """The decision where the person's own id at Customer.io is known."""
    return decide.decide(Subject(given_user, VIP, sent, taken, cio_id="d9c1"), by or settings(), NOW)


def test_who_has_another_customer_id_now_gets_it_through_their_cio_id_where_that_is_known() -> None:
    decision = renaming(user(external_id="43"), mirror(SENT))

    assert decision == Decision(
        "update",
        "customer_id_changed",
        CustomerId("cio_id", "d9c1"),
        CustomerId("id", "43"),
        {"id": "43"},
        SENT,
        timestamp=NOW_SECONDS,
    )


def test_another_customer_id_goes_together_with_what_else_changed_and_before_it() -> None:
    opted_out = user(external_id="43", email="new@example.com", opted_out=True, opt_changed_at=BEFORE_CREATE)
    decision = renaming(opted_out, mirror(SENT))

    assert decision.reason == "customer_id_changed"
    assert list(decision.changes.items()) == [("id", "43"), ("email", "new@example.com"), ("unsubscribed", True)]
    assert "id" not in decision.attributes


def test_nobody_gets_the_customer_id_of_another_person_or_one_that_cannot_be() -> None:
    skipped = Decision("skip", "customer_id_changed", ANN)

    assert renaming(user(external_id="43"), mirror(SENT), taken=True) == skipped
    assert renaming(user(external_id=".."), mirror(SENT)) == skipped


def test_a_changed_email_is_addressed_by_the_cio_id_where_that_is_known() -> None:
    decision = renaming(user(email="new@example.com"), mirror(SENT))

    assert (decision.verb, decision.reason, decision.renamed) == ("update", "changed", None)
    assert decision.customer_id == CustomerId("cio_id", "d9c1")
    assert decision.changes == {"email": "new@example.com"}
    other_changes = renaming(user(attributes={"plan": "pro"}), mirror(SENT), by=settings(attributes=["plan"]))
    assert other_changes.customer_id == ANN


def test_who_may_not_be_there_is_addressed_by_the_id_that_makes_them() -> None:
    """The cio_id may be of somebody who was deleted, and then nobody would ever be made."""
    unsure = replace(mirror(SENT), unsure="*")
    decision = decide.decide(Subject(user(), VIP, unsure, cio_id="d9c1"), settings(), NOW)
    assert "email" in decision.changes
    assert decision.customer_id == CustomerId("id", unsure.customer_id)


def test_who_is_known_by_email_gets_another_one_through_their_cio_id() -> None:
    sent = mirror(SENT, customer_id="ann@example.com", id_kind="email")
    decision = renaming(user(email="New@example.com"), sent, by=settings(customer_id="email"))

    assert decision.customer_id == CustomerId("cio_id", "d9c1")
    assert decision.renamed == CustomerId("email", "new@example.com")
    assert decision.changes == {"email": "New@example.com"}


def test_who_is_known_by_an_email_that_has_gone_keeps_it_there() -> None:
    """It is all that they can be addressed by."""
    sent = mirror(SENT, customer_id="ann@example.com", id_kind="email")
    by = settings(customer_id=["email", "code"], attributes=["plan"])
    gone = user(email=None, attributes={"plan": "pro"})
    for decision in (decided(gone, sent=sent, by=by), renaming(gone, sent, by=by)):
        assert (decision.customer_id, decision.changes) == (CustomerId("email", "ann@example.com"), {"plan": "pro"})
        assert decision.attributes["email"] == "ann@example.com"
    other = renaming(user(email=None, attributes={"code": "c1"}), sent, by=by)
    assert other.changes == {"id": "c1", "email": None}, "with an id of another kind they can"


def test_an_opt_out_from_before_the_create_that_it_missed_is_sent() -> None:
    opted_out = user(opted_out=True, opt_changed_at=BEFORE_CREATE)
    decision = decided(opted_out, sent=mirror(SENT))

    assert decision == Decision(
        "update",
        "opted_out",
        ANN,
        None,
        {"unsubscribed": True},
        {**SENT, "unsubscribed": True},
        timestamp=NOW_SECONDS,
    )
    assert verdict(decided(opted_out, sent=mirror(decision.attributes))) == ("skip", "unchanged")


def test_who_has_what_they_should_is_left_alone() -> None:
    decision = decided(user(), sent=mirror(SENT))

    assert decision == Decision("skip", "unchanged", CustomerId("id", "42"), attributes=SENT)


def test_who_changed_gets_what_differs_and_loses_what_went() -> None:
    sent = mirror({**SENT, "plan": "free", "old": 1})
    decision = decided(user(attributes={"plan": "pro"}), sent=sent, by=settings(attributes=["plan"]))

    assert decision == Decision(
        "update",
        "changed",
        ANN,
        None,
        {"plan": "pro", "old": None},
        {**SENT, "plan": "pro"},
        timestamp=NOW_SECONDS,
    )


# The table once more, as data: the first row whose condition holds wins, in every combination of conditions.


@dataclass(frozen=True)
class Case:
    """`place` is where the user stands: in a whitelisted segment, or in none, with people kept for ever ("kept"), and
    where they are deleted, since an unknown time ("noticed"), or since less or more than the grace. A "misread" mirror
    is live, under an id that v1 would take for an email, and v1 is in use."""

    merged: bool
    erased: bool
    place: Literal["in", "kept", "noticed", "leaving", "left"]
    mirror: Literal["none", "live", "misread", "suppressed", "just deleted", "deleted"]
    from_webhooks: bool
    id_value: str | None
    taken: bool
    has_cio_id: bool
    email: str | None
    email_required: bool
    missed_opt_out: bool
    stale: bool

    @property
    def inside(self) -> bool:
        return self.place == "in"

    @property
    def live(self) -> bool:
        return self.mirror in ("live", "misread")

    @property
    def misread(self) -> bool:
        return self.mirror == "misread"

    @property
    def enters(self) -> bool:
        return self.inside and not self.live

    @property
    def other_id(self) -> bool:
        return self.id_value not in ("42", None)

    @property
    def can_be_renamed(self) -> bool:
        new = ("42", "43") if self.misread else ("43",)
        return self.id_value in new and not self.taken and self.has_cio_id

    @property
    def goes(self) -> bool:
        """Something is due for a person who is in no segment."""
        return not self.inside and self.live and (self.missed_opt_out or self.place == "left")


TABLE: list[tuple[Callable[[Case], bool], tuple[str, str]]] = [
    (lambda case: case.merged, ("skip", "merged")),
    (lambda case: case.mirror == "suppressed", ("skip", "suppressed")),
    (lambda case: case.erased, ("skip", "erased")),
    (lambda case: case.enters and case.from_webhooks, ("skip", "only_from_customerio")),
    (lambda case: case.enters and case.id_value is None, ("skip", "no_customer_id")),
    (lambda case: case.enters and case.id_value == "..", ("skip", "bad_customer_id")),
    (lambda case: case.enters and case.taken, ("skip", "customer_id_taken")),
    (lambda case: case.enters and case.email is None and case.email_required, ("skip", "no_email")),
    (lambda case: case.enters and case.mirror == "just deleted", ("postpone", "just_deleted")),
    (lambda case: case.enters, ("create", "entered")),
    (lambda case: case.inside and case.can_be_renamed, ("update", "customer_id_changed")),
    (lambda case: case.misread and (case.inside or case.goes), ("skip", "bad_customer_id")),
    (lambda case: case.inside and case.missed_opt_out, ("update", "opted_out")),
    (lambda case: case.inside and case.other_id, ("skip", "customer_id_changed")),
    (lambda case: case.inside and not case.stale, ("skip", "unchanged")),
    (lambda case: case.inside, ("update", "changed")),
    (lambda case: not case.inside and not case.live, ("skip", "not_in_segment")),
    (lambda case: not case.inside and case.place != "left" and case.missed_opt_out, ("update", "opted_out")),
    (lambda case: case.place == "kept", ("skip", "left_kept")),
    (lambda case: case.place in ("noticed", "leaving"), ("postpone", "leaving")),
    (lambda case: not case.inside, ("delete", "left")),
]

TRUTHS = (False, True)
CASES = [
    Case(*facts[:8], *facts[8], *facts[9:])
    for facts in itertools.product(
        TRUTHS,
        TRUTHS,
        ("in", "kept", "noticed", "leaving", "left"),
        ("none", "live", "misread", "suppressed", "just deleted", "deleted"),
        TRUTHS,
        ("42", None, "..", "43"),
        TRUTHS,
        TRUTHS,
        ((None, True), (None, False), ("ann@example.com", True)),
        TRUTHS,
        TRUTHS,
    )
]

APIS = ("batch", "single")
KEPT = {(api, required): settings(api=api, require_email=required) for api in APIS for required in TRUTHS}
DELETING = {
    (api, required): settings(api=api, require_email=required, delete=DELETED) for api in APIS for required in TRUTHS
}
LEFT_AT = {"leaving": NOW - GRACE + SECOND, "left": NOW - GRACE}
DELETED_AT = {"just deleted": NOW - 59 * SECOND, "deleted": NOW - 60 * SECOND}


def decided_for(case: Case) -> Decision:
    email = {"email": case.email} if case.email else {}
    sent = mirror(
        {**email, "hull_segments": ["Old"] if case.stale else ["VIP"]},
        customer_id="ann@example.com" if case.misread else "42",
        left_at=LEFT_AT.get(case.place),
        deleted_at=DELETED_AT.get(case.mirror),
        suppressed_at=NOW if case.mirror == "suppressed" else None,
    )
    given_user = user(
        external_id=case.id_value,
        email=case.email,
        known_by="customerio" if case.from_webhooks else "own",
        opted_out=case.missed_opt_out,
        opt_changed_at=BEFORE_CREATE if case.missed_opt_out else None,
        merged_into="another" if case.merged else None,
    )
    subject = Subject(
        given_user,
        VIP if case.inside else OTHER,
        None if case.mirror == "none" else sent,
        taken=case.taken,
        cio_id="d9c1" if case.has_cio_id else None,
        erased=case.erased,
    )
    by = KEPT if case.place in ("in", "kept") else DELETING
    return decide.decide(subject, by["single" if case.misread else "batch", case.email_required], NOW)


def matching(case: Case) -> tuple[bool, ...]:
    return tuple(bool(holds(case)) for holds, _ in TABLE)


@functools.cache
def decisions() -> dict[tuple[bool, ...], set[tuple[str, str]]]:
    """What was decided in every combination, by which rows of the table match it."""
    found = defaultdict(set)
    for case in CASES:
        found[matching(case)].add(verdict(decided_for(case)))
    return found


def test_in_every_combination_the_first_row_that_matches_wins() -> None:
    winners = set()
    for rows, verdicts in decisions().items():
        first = rows.index(True)
        assert verdicts == {TABLE[first][1]}, rows
        winners.add(first)

    assert winners == set(range(len(TABLE)))


# Every pair that any combination matches, the neighbours among them.
MATCHES = set(map(matching, CASES))
PAIRS = [
    (first, second)
    for first, second in itertools.combinations(range(len(TABLE)), 2)
    if any(rows[first] and rows[second] for rows in MATCHES)
]


@pytest.mark.parametrize(
    ("first", "second"),
    [pytest.param(*pair, id=" before ".join(" ".join(TABLE[row][1]) for row in pair)) for pair in PAIRS],
)
def test_of_two_rows_that_match_the_upper_one_wins(first: int, second: int) -> None:
    both = [verdicts for rows, verdicts in decisions().items() if rows.index(True) == first and rows[second]]

    assert both
    assert set().union(*both) == {TABLE[first][1]}


def test_the_same_people_are_kept_and_left_alone_wherever_nobody_is_deleted() -> None:
    for left_at in (None, NOW - GRACE):
        sent = mirror(SENT, left_at=left_at)
        assert verdict(decided(user(), bits=OTHER, sent=sent)) == ("skip", "left_kept")


def test_who_is_outside_without_a_mirror_and_known_from_webhooks_only_is_not_in_a_segment() -> None:
    assert verdict(decided(user(known_by="customerio"), bits=NOWHERE)) == ("skip", "not_in_segment")


# What a person keeps.


def test_a_person_keeps_their_id_when_ours_has_gone() -> None:
    decision = decided(user(external_id=None, email="new@example.com"), sent=mirror(SENT))

    assert decision.customer_id == CustomerId("id", "42")
    assert decision.changes == {"email": "new@example.com"}


def test_who_has_a_mirror_stays_whatever_would_keep_them_from_entering() -> None:
    sent = mirror({"hull_segments": ["Old"]})

    for given_user in (user(known_by="customerio"), user(email=None)):
        assert verdict(decided(given_user, sent=sent, taken=True)) == ("update", "changed")


@pytest.mark.parametrize(
    ("email", "reason"),
    [("Ann@Example.com", "changed"), ("ANN@example.com", "changed"), ("b@example.com", "customer_id_changed")],
)
def test_an_email_as_customer_id_is_compared_without_case(email: str, reason: str) -> None:
    sent = mirror(SENT, customer_id="ann@example.com", id_kind="email")
    decision = decided(user(email=email), sent=sent, by=settings(customer_id="email"))

    assert decision.reason == reason
    assert decision.customer_id == CustomerId("email", "ann@example.com")


def test_an_id_of_another_kind_is_another_id() -> None:
    sent = mirror(SENT, customer_id="ann@example.com", id_kind="email")

    assert decided(user(external_id="ann@example.com"), sent=sent).reason == "customer_id_changed"


def test_a_number_that_is_written_otherwise_is_the_same_id() -> None:
    by = settings(customer_id="crm")

    assert decided(user(attributes={"crm": 42.0}), sent=mirror(SENT), by=by).reason == "unchanged"


def test_what_became_too_long_stays_as_it_was_sent() -> None:
    by = settings(attributes=["bio", "plan"])
    sent = mirror({**SENT, "bio": "short", "plan": "free"})
    decision = decided(user(attributes={"bio": "x" * 1001, "plan": "pro"}), sent=sent, by=by)

    assert decision.changes == {"plan": "pro"}
    assert decision.attributes == {**SENT, "bio": "short", "plan": "pro"}
    assert [each.name for each in decision.left_out] == ["bio"]
    again = decided(user(attributes={"bio": "x" * 1001, "plan": "pro"}), sent=mirror(decision.attributes), by=by)
    assert verdict(again) == ("skip", "unchanged")
    assert again.left_out == decision.left_out


def test_what_became_too_long_counts_towards_the_attributes_that_a_person_may_have() -> None:
    names = [f"a{number}" for number in range(305)]
    by = settings(attributes=names)
    given_user = user(attributes=dict.fromkeys(names, "x"))
    sent = decided(given_user, by=by).attributes
    for grown in ("a0", "a297"):
        decision = decided(user(attributes={**given_user.attributes, grown: "x" * 1001}), sent=mirror(sent), by=by)
        assert verdict(decision) == ("skip", "unchanged")
        assert decision.attributes == sent
        assert len(sent) == 300
        assert (grown, "value_too_long") in {(each.name, each.reason) for each in decision.left_out}
        assert ("a298", "too_many") in {(each.name, each.reason) for each in decision.left_out}


def test_what_became_too_long_and_has_no_place_any_more_goes() -> None:
    names = [f"a{number}" for number in range(299)]
    by = settings(attributes=names)
    full = dict.fromkeys(names, "x")
    sent = decided(user(attributes={**full, "a0": None}), by=by).attributes
    decision = decided(user(attributes={**full, "a298": "x" * 1001}), sent=mirror(sent), by=by)

    assert decision.changes == {"a298": None, "a0": "x"}
    assert [(each.name, each.reason) for each in decision.left_out] == [("a298", "too_many")]


def test_what_is_too_long_from_the_start_is_left_out_with_its_reason() -> None:
    decision = decided(user(attributes={"bio": "x" * 1001}), by=settings(attributes=["bio"]))

    assert decision.changes == decision.attributes == SENT
    assert [(each.name, each.reason) for each in decision.left_out] == [("bio", "value_too_long")]


def test_who_has_a_customer_id_that_nobody_can_read_is_told_of_an_opt_out_and_nothing_else() -> None:
    by = settings(customer_id="code")
    damaged = replace(user(), attributes=Damaged({}, frozenset({"code"})))
    out = replace(damaged, opted_out=True, opt_changed_at=BEFORE_CREATE)

    assert decided(damaged, by=by) == Decision("skip", "unreadable")
    assert decided(damaged, sent=mirror(SENT), by=by) == Decision("skip", "unreadable", ANN)
    assert decided(out, sent=mirror(SENT), by=by).changes == {"unsubscribed": True}


# Ids that v1 would read as another kind.

SINGLE = settings(api="single")
MISREAD = [("id", "ann@example.com"), ("id", "cio_d9c1"), ("email", "42"), ("email", "cio_d9c1")]


@pytest.mark.parametrize(("kind", "value"), MISREAD)
def test_nobody_is_addressed_by_an_id_that_v1_would_read_as_another_kind(
    kind: Literal["id", "email"], value: str
) -> None:
    sent_as = CustomerId(kind, value)
    skipped = Decision("skip", "bad_customer_id", sent_as)
    sent = mirror({**SENT, "hull_segments": ["Old"]}, customer_id=value, id_kind=kind)
    out = user(external_id=value, opted_out=True, opt_changed_at=BEFORE_CREATE)
    deleting = settings(api="single", delete=DELETED)

    for given_user in (user(external_id=value), user(external_id=None), out):
        assert decided(given_user, sent=sent, by=SINGLE) == skipped
    gone = replace(sent, left_at=NOW - GRACE)
    assert decided(user(), bits=NOWHERE, sent=gone, by=deleting) == skipped
    assert decided(out, bits=NOWHERE, sent=sent, by=SINGLE) == skipped
    assert decided(out, bits=NOWHERE, sent=sent, by=deleting) == skipped
    assert decided(user(), bits=NOWHERE, sent=sent, by=SINGLE) == Decision("skip", "left_kept", sent_as)
    batch = settings(delete=DELETED)
    assert verdict(decided(user(), bits=NOWHERE, sent=gone, by=batch)) == ("delete", "left")


def test_through_their_cio_id_they_get_an_id_that_v1_can_address() -> None:
    sent = mirror(SENT, customer_id="ann@example.com")
    decision = renaming(user(external_id="43"), sent, by=SINGLE)

    assert (decision.customer_id, decision.renamed) == (CustomerId("cio_id", "d9c1"), CustomerId("id", "43"))
    assert renaming(user(external_id="43"), sent, by=SINGLE, taken=True).reason == "bad_customer_id"


# The moment.


@pytest.mark.parametrize(
    ("sent_ts", "expected"),
    [
        pytest.param(NOW_SECONDS - 2, NOW_SECONDS, id="the moment of the decision, in whole seconds"),
        pytest.param(NOW_SECONDS - 1, NOW_SECONDS, id="a second later"),
        pytest.param(NOW_SECONDS, NOW_SECONDS + 1, id="twice in a second"),
        pytest.param(NOW_SECONDS + 3600, NOW_SECONDS + 3601, id="a clock that was set back"),
    ],
)
def test_each_update_is_later_than_what_was_sent_before(sent_ts: int, expected: int) -> None:
    sent = mirror({"hull_segments": ["Old"]}, sent_ts=sent_ts)

    assert decided(user(), sent=sent).timestamp == expected


# Consent.


def test_a_create_carries_the_opt_out_that_we_know_of() -> None:
    decision = decided(user(opted_out=True, opt_changed_at=AFTER_CREATE))

    assert decision.changes == decision.attributes == {**SENT, "unsubscribed": True}


def test_a_create_never_subscribes_anyone_explicitly() -> None:
    assert "unsubscribed" not in decided(user(opted_out=False, opt_changed_at=AFTER_CREATE)).changes


def test_with_as_many_attributes_as_a_person_may_have_the_opt_out_still_goes() -> None:
    names = [f"a{number}" for number in range(300)]
    full = user(attributes=dict.fromkeys(names, 1), opted_out=True, opt_changed_at=BEFORE_CREATE)
    by = settings(attributes=names)
    created = decided(full, by=by)
    subscribed = decided(replace(full, opted_out=False), by=by)
    updated = decided(full, sent=mirror(subscribed.attributes), by=by)

    assert len(created.attributes) == len(subscribed.attributes) == 300
    assert created.changes["unsubscribed"] is True
    assert updated.changes == {"unsubscribed": True, "a297": None}


@pytest.mark.parametrize("at", [AFTER_CREATE, CREATED, None])
def test_an_opt_out_that_customer_io_told_us_of_the_person_as_they_are_is_not_sent_back(at: datetime | None) -> None:
    decision = decided(user(opted_out=True, opt_changed_at=at), sent=mirror(SENT, created_at=CREATED))

    assert verdict(decision) == ("skip", "unchanged")
    assert decision.attributes == SENT


def test_an_opt_in_from_before_the_create_is_not_sent() -> None:
    assert verdict(decided(user(opted_out=False, opt_changed_at=BEFORE_CREATE), sent=mirror(SENT))) == (
        "skip",
        "unchanged",
    )


def test_an_opt_out_that_was_sent_is_never_emptied_nor_sent_again() -> None:
    sent = mirror({**SENT, "unsubscribed": True})

    for opted_out, at in itertools.product(TRUTHS, (BEFORE_CREATE, AFTER_CREATE)):
        given_user = user(opted_out=opted_out, opt_changed_at=at)
        assert verdict(decided(given_user, sent=sent)) == ("skip", "unchanged")
        changed = decided(replace(given_user, email="new@example.com"), sent=sent)
        assert verdict(changed) == ("update", "changed")
        assert changed.changes == {"email": "new@example.com"}
        assert changed.attributes["unsubscribed"] is True


def test_a_missed_opt_out_goes_with_whatever_else_changed() -> None:
    given_user = user(email="new@example.com", opted_out=True, opt_changed_at=BEFORE_CREATE)
    decision = decided(given_user, sent=mirror(SENT))

    assert decision.reason == "opted_out"
    assert decision.changes == {"email": "new@example.com", "unsubscribed": True}


OWN = settings(opt_out="no_mail", attributes=["no_mail"])


def test_an_opt_out_of_our_own_is_sent_at_once_and_once() -> None:
    says = user(attributes={"no_mail": True}, opted_out=True, opt_changed_at=AFTER_CREATE, opted_by="own")
    decision = decided(says, sent=mirror(SENT), by=OWN)

    assert verdict(decision) == ("update", "changed")
    assert decision.changes == {"unsubscribed": True, "no_mail": True}
    sent = mirror(decision.attributes, opt_sent_at=AFTER_CREATE)
    assert verdict(decided(says, sent=sent, by=OWN)) == ("skip", "unchanged")


def test_an_attribute_that_says_so_is_enough_however_it_came_here() -> None:
    for word in ({}, {"opted_out": False, "opt_changed_at": AFTER_CREATE}):
        says = user(attributes={"no_mail": True}, **word)
        assert decided(says, by=OWN).changes["unsubscribed"] is True
        assert decided(says, sent=mirror(SENT), by=OWN).changes["unsubscribed"] is True


def test_an_attribute_that_says_so_no_more_takes_nothing_back_by_itself() -> None:
    sent = mirror({**SENT, "unsubscribed": True, "no_mail": True})
    for value in ({}, {"no_mail": False}):
        decision = decided(user(attributes=value), sent=sent, by=OWN)
        assert "unsubscribed" not in decision.changes
        assert decision.attributes["unsubscribed"] is True


def test_our_own_word_that_takes_an_opt_out_back_is_sent_as_false_and_once() -> None:
    back = user(opted_out=False, opt_changed_at=AFTER_CREATE, opted_by="own")
    for sent in (SENT, {**SENT, "unsubscribed": True}):
        for opt_sent_at in (None, CREATED):
            decision = decided(back, sent=mirror(sent, opt_sent_at=opt_sent_at), by=OWN)
            assert decision.changes == {"unsubscribed": False}
    told = mirror({**SENT, "unsubscribed": False}, opt_sent_at=AFTER_CREATE)
    assert verdict(decided(back, sent=told, by=OWN)) == ("skip", "unchanged")


def test_what_was_told_before_is_told_again_when_something_else_was_said_since() -> None:
    again = user(opted_out=True, opt_changed_at=AFTER_CREATE, opted_by="own")
    sent = mirror({**SENT, "unsubscribed": True}, opt_sent_at=CREATED)

    assert decided(again, sent=sent, by=OWN).changes == {"unsubscribed": True}


def test_an_opt_out_that_customerio_tells_after_our_opt_in_was_sent_is_told_once_more() -> None:
    """They may have said it before our word arrived there, late, and undid it."""
    sent = mirror({**SENT, "unsubscribed": False}, opt_sent_at=CREATED)
    for at in (CREATED - SECOND, AFTER_CREATE, None):
        out = user(opted_out=True, opt_changed_at=at)
        decision = decided(out, sent=sent, by=OWN)
        assert verdict(decision) == ("update", "opted_out")
        assert decision.changes == {"unsubscribed": True}
        told = mirror(decision.attributes, opt_sent_at=at)
        assert verdict(decided(out, sent=told, by=OWN)) == ("skip", "unchanged")
        back = replace(out, opted_out=False, opt_changed_at=NOW)
        assert verdict(decided(back, sent=told, by=OWN)) == ("skip", "unchanged"), "and theirs to take back"


def test_our_word_that_takes_an_opt_out_back_is_not_sent_while_our_attribute_says_the_contrary() -> None:
    back = user(attributes={"no_mail": True}, opted_out=False, opt_changed_at=AFTER_CREATE, opted_by="own")
    for sent in (SENT, {**SENT, "unsubscribed": True}, {**SENT, "unsubscribed": False}):
        assert decided(back, sent=mirror(sent), by=OWN).changes == {"unsubscribed": True, "no_mail": True}


WORDS = st.tuples(st.sampled_from(["own", "customerio"]), st.booleans(), st.integers(0, 5), st.booleans())


@example([("own", True, 0, False), ("own", False, 1, True), ("customerio", True, 2, False)])
@example([("customerio", True, 0, False), ("own", False, 1, True), ("customerio", True, 2, True)])
@given(st.lists(WORDS, max_size=8))
def test_whatever_is_said_and_sent_in_any_order_an_opt_out_that_is_known_holds_at_customerio(
    words: list[tuple[Literal["own", "customerio"], bool, int, bool]],
) -> None:
    """Each word is said at some second and read in this order, and what is due is sent after it or not. What we send
    comes there after all of Customer.io's own words, so late that it undoes them."""
    theirs = sorted((at, out) for by, out, at, _ in words if by == "customerio")
    there = theirs[-1][1] if theirs else False
    known, sent = Learnt(), mirror(SENT, created_at=CREATED)
    for number, (by, out, at, sends) in enumerate(words, start=1):
        known = learnt.learn(known, [Word(AFTER_CREATE + at * SECOND, opted_out=out, by=by)])
        if not sends and number < len(words):
            continue
        says = user(opted_out=known.opted_out, opt_changed_at=known.opt_changed_at, opted_by=known.opted_by)
        decision = decided(says, sent=sent, by=OWN)
        if decision.verb == "update":
            there = decision.changes["unsubscribed"]
            assert there or (says.opted_by == "own" and not says.opted_out)
            sent = mirror(decision.attributes, opt_sent_at=says.opt_changed_at)
        assert verdict(decided(says, sent=sent, by=OWN)) == ("skip", "unchanged")
    assert there or not known.opted_out


# An opt-out where nothing else is sent.


def alone(given_user: User, sent: Mirror, *, bits: str = OTHER, by: Settings | None = None) -> Decision:
    decision = decided(given_user, bits=bits, sent=sent, by=by)
    assert verdict(decision) == ("update", "opted_out")
    assert (decision.customer_id, decision.renamed, decision.timestamp) == (ANN, None, NOW_SECONDS)
    return decision


def test_an_opt_out_goes_alone_to_who_is_kept_and_then_they_are_kept_again() -> None:
    out = user(email="new@example.com", opted_out=True, opt_changed_at=BEFORE_CREATE)
    decision = alone(out, mirror(SENT))

    assert decision.changes == {"unsubscribed": True}
    assert decision.attributes == {**SENT, "unsubscribed": True}
    assert decision.until is None
    assert decided(out, bits=OTHER, sent=mirror(decision.attributes)) == Decision("skip", "left_kept", ANN)


def test_an_opt_out_goes_alone_within_the_grace_and_takes_nothing_of_it() -> None:
    by = settings(delete=DELETED)
    out = user(email=None, opted_out=True, opt_changed_at=BEFORE_CREATE)
    for left_at, until in ((None, NOW + GRACE), (NOW - GRACE + SECOND, NOW + SECOND)):
        decision = alone(out, mirror(SENT, left_at=left_at), by=by)
        assert (decision.changes, decision.until) == ({"unsubscribed": True}, until)
        told = mirror(decision.attributes, left_at=left_at)
        assert decided(out, bits=OTHER, sent=told, by=by) == Decision("postpone", "leaving", ANN, until=until)
    assert verdict(decided(out, bits=OTHER, sent=mirror(SENT, left_at=NOW - GRACE), by=by)) == ("delete", "left")


def test_an_opt_out_goes_alone_to_who_cannot_get_their_new_id() -> None:
    out = user(external_id="43", email="new@example.com", opted_out=True, opt_changed_at=BEFORE_CREATE)
    decision = alone(out, mirror(SENT), bits=VIP)

    assert decision.changes == {"unsubscribed": True}
    assert decision.attributes == {**SENT, "unsubscribed": True}
    told = mirror(decision.attributes)
    assert decided(out, sent=told) == Decision("skip", "customer_id_changed", ANN)
    assert renaming(out, mirror(SENT), taken=True) == decision


def test_while_nobody_may_be_renamed_an_opt_out_goes_alone() -> None:
    out = user(external_id="43", opted_out=True, opt_changed_at=BEFORE_CREATE)
    for who, expected in ((out, ("update", "opted_out")), (user(external_id="43"), ("skip", "customer_id_changed"))):
        subject = Subject(who, VIP, mirror(SENT), cio_id="d9c1")
        decision = decide.decide(subject, settings(), NOW, may_rename=False)
        assert (verdict(decision), decision.customer_id, decision.renamed) == (expected, ANN, None)


def test_whoever_says_it_the_opt_out_goes_alone_and_once() -> None:
    own = user(attributes={"no_mail": True}, opted_out=True, opt_changed_at=AFTER_CREATE, opted_by="own")
    for says, before in (
        (own, {}),
        (own, {"unsubscribed": False}),
        (own, {"unsubscribed": True}),  # they may have been told otherwise since
        (user(attributes={"no_mail": True}), {}),
        (user(opted_out=True, opt_changed_at=AFTER_CREATE), {"unsubscribed": False}),
    ):
        decision = alone(says, mirror({**SENT, **before}, opt_sent_at=CREATED), by=OWN)
        assert decision.changes == {"unsubscribed": True}
        told = mirror(decision.attributes, opt_sent_at=AFTER_CREATE)
        assert verdict(decided(says, bits=OTHER, sent=told, by=OWN)) == ("skip", "left_kept")


def test_nothing_else_goes_alone() -> None:
    back = user(opted_out=False, opt_changed_at=AFTER_CREATE, opted_by="own")
    theirs = user(opted_out=True, opt_changed_at=AFTER_CREATE)
    for says, sent in ((back, {**SENT, "unsubscribed": True}), (theirs, SENT)):
        assert verdict(decided(says, bits=OTHER, sent=mirror(sent), by=OWN)) == ("skip", "left_kept")
        changed = replace(says, external_id="43")
        assert verdict(decided(changed, sent=mirror(sent), by=OWN)) == ("skip", "customer_id_changed")


def test_where_a_person_has_all_the_attributes_that_they_may_have_one_makes_room_for_the_opt_out() -> None:
    sent = {**SENT, **{f"a{number}": 1 for number in range(298)}}
    out = user(opted_out=True, opt_changed_at=BEFORE_CREATE)
    decision = alone(out, mirror(dict(reversed(sent.items()))))

    assert decision.changes == {"a0": None, "unsubscribed": True}
    assert list(decision.changes) == ["a0", "unsubscribed"], "what makes room goes first"
    assert len(decision.attributes) == 300
    full = mirror({**sent, "unsubscribed": False})
    assert alone(out, full).changes == {"unsubscribed": True}
    one_less = mirror({name: value for name, value in sent.items() if name != "a7"})
    assert alone(out, one_less).changes == {"unsubscribed": True}


def test_who_comes_back_is_created_with_the_opt_out_and_the_preferences_that_we_know() -> None:
    known = {"topics": {"topic_1": Preference(False, 1)}}
    out = user(opted_out=True, opt_changed_at=CREATED)
    subject = Subject(out, VIP, mirror({}, deleted_at=CREATED), preferences=known)
    decision = decide.decide(subject, settings(), NOW)

    topics = {"cio_subscription_preferences": {"topics": {"topic_1": False}}}
    assert decision.changes == {**SENT, "unsubscribed": True, **topics}
    assert decision.attributes == {**SENT, "unsubscribed": True}
    stays = decide.decide(replace(subject, mirror=mirror(decision.attributes)), settings(), NOW)
    assert verdict(stays) == ("skip", "unchanged")


PICKS = ["a", "b", "c_at"]
states = st.dictionaries(st.sampled_from([*PICKS, "d"]), values | st.just("x" * 1001), max_size=4)
moments = st.sampled_from([None, BEFORE_CREATE, CREATED, AFTER_CREATE])


@given(states, states, st.booleans(), st.booleans(), moments, st.sampled_from([VIP, "11", OTHER, NOWHERE]))
def test_a_decision_that_was_carried_out_leaves_nothing_to_do_and_takes_no_opt_out_back(
    before: dict[str, Any], after: dict[str, Any], opted_out: bool, carried: bool, at: datetime | None, bits: str
) -> None:
    by = settings(attributes=PICKS)
    sent = {name: value for name, value in before.items() if value is not None}
    sent |= {"unsubscribed": True} if carried else {}
    given_user = user(attributes=after, opted_out=opted_out, opt_changed_at=at)

    for decision in (decided(given_user, bits=bits, by=by), decided(given_user, bits=bits, sent=mirror(sent), by=by)):
        if decision.verb == "skip":
            assert decision.changes == {}
            continue
        assert decision.changes
        assert decision.changes.get(mapping.OPT_OUT, True) is True
        assert carried <= (decision.attributes.get(mapping.OPT_OUT) is True) or decision.verb == "create"
        assert {each.name for each in decision.left_out}.isdisjoint(decision.changes)
        again = decided(given_user, bits=bits, sent=mirror(decision.attributes), by=by)
        assert verdict(again) == ("skip", "left_kept" if bits in (OTHER, NOWHERE) else "unchanged")


# Visitors whom somebody turned out to be.


def visited(by: Settings, sent: Mirror | None, *anonymous_ids: str, **more: Any) -> Decision:
    return decide.decide(Subject(user(**more), VIP, sent, anonymous_ids=anonymous_ids), by, NOW)


def with_visitors(**people: Any) -> Settings:
    return settings(**people).model_copy(update={"events": Events(anonymous=True)})


def test_a_create_tells_of_every_visitor_whom_the_user_was() -> None:
    decision = visited(with_visitors(), None, "v1", "v2")
    assert (verdict(decision), decision.anonymous_ids) == (("create", "entered"), ("v1", "v2"))
    dead = replace(mirror({}, deleted_at=CREATED), anonymous_ids=("v1",))
    assert visited(with_visitors(), dead, "v1").anonymous_ids == ("v1",)


def test_an_update_tells_of_the_visitors_whom_they_turned_out_to_be_since() -> None:
    sent = replace(mirror(SENT), anonymous_ids=("v1",))
    decision = visited(with_visitors(), sent, "v1", "v2")
    assert decision == replace(
        Decision("update", "changed", ANN, None, {}, SENT, timestamp=NOW_SECONDS), anonymous_ids=("v2",)
    )
    also = visited(with_visitors(), sent, "v1", "v2", email="new@example.com")
    assert (also.changes, also.anonymous_ids) == ({"email": "new@example.com"}, ("v2",))


def test_each_visitor_is_told_of_once() -> None:
    sent = replace(mirror(SENT), anonymous_ids=("v1", "v2"))
    assert verdict(visited(with_visitors(), sent, "v2", "v1")) == ("skip", "unchanged")
    assert verdict(visited(with_visitors(), sent)) == ("skip", "unchanged")


def test_of_whom_nobody_heard_whether_a_call_was_applied_every_visitor_is_told_again() -> None:
    sent = replace(mirror(SENT), anonymous_ids=("v1",), unsure="*")
    decision = visited(with_visitors(), sent, "v1", "v2")
    assert (decision.verb, decision.anonymous_ids) == ("update", ("v1", "v2"))


def test_where_visitors_are_not_sent_nothing_is_told_of_them() -> None:
    assert visited(settings(), None, "v1").anonymous_ids == ()
    assert verdict(visited(settings(), mirror(SENT), "v1")) == ("skip", "unchanged")


def test_visitors_of_whom_too_much_would_have_to_be_told_are_left_out_and_that_is_said() -> None:
    many = [f"v{number:03}" for number in range(mapping.MOST_ANONYMOUS_IDS + 1)]
    decision = visited(with_visitors(), None, "é" * 501, *many)
    assert decision.anonymous_ids == tuple(many[:-1])
    assert [(each.name, each.reason) for each in decision.left_out] == [
        ("anonymous_id", "value_too_long"),
        ("anonymous_id", "too_many"),
    ]
    assert visited(with_visitors(), None, "é" * 500).anonymous_ids == ("é" * 500,)
    assert verdict(visited(with_visitors(), mirror(SENT), "é" * 501)) == ("skip", "unchanged")


def test_what_a_call_may_have_set_is_sent_again_as_it_should_be() -> None:
    sent = mirror({**SENT, "plan": "pro"}, unsure="plan\nseats\nemail")
    decision = decided(user(attributes={"plan": "pro"}), sent=sent, by=settings(attributes=("plan",)))
    assert verdict(decision) == ("update", "changed")
    assert decision.changes == {"plan": "pro", "seats": None, "email": "ann@example.com"}


def test_what_tells_who_somebody_is_is_not_emptied_because_nobody_heard_it() -> None:
    names = "id\ncio_id\nanonymous_id\ncio_subscription_preferences"
    assert verdict(decided(user(), sent=mirror(SENT, unsure=names))) == ("skip", "unchanged")


@pytest.mark.parametrize("opted_out", [True, False])
def test_an_opt_out_of_which_nobody_heard_is_said_again_and_never_taken_back(opted_out: bool) -> None:
    given_user = user(opted_out=opted_out, opt_changed_at=AFTER_CREATE if opted_out else None)
    decision = decided(given_user, sent=mirror(SENT, unsure="unsubscribed"))
    assert decision.changes == ({"unsubscribed": True} if opted_out else {})


def test_of_whom_nobody_heard_whether_they_are_there_everything_is_sent_with_the_consent_of_a_create() -> None:
    by = settings(attributes=("plan", "seats"))
    sent = mirror({"old": 1, "email": "ann@example.com"}, unsure="*")
    out = user(attributes={"plan": "pro"}, opted_out=True, opt_changed_at=AFTER_CREATE)
    decision = decided(out, sent=sent, by=by)
    assert verdict(decision) == ("update", "unsure")
    assert decision.changes == {
        "email": "ann@example.com",
        "hull_segments": ["VIP"],
        "plan": "pro",
        "unsubscribed": True,
        "old": None,
        "seats": None,
    }
    assert "unsubscribed" not in decided(user(), sent=sent, by=by).changes
    says_so = decided(user(attributes={"gone": True}), sent=sent, by=settings(opt_out="gone"))
    assert says_so.changes["unsubscribed"] is True
