"""The decision table: each row, which of two rows goes first, and what no row may ever do."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.core import decide, mapping
from connector.records import CustomerId, Decision, Mirror, Subject, User
from connector.settings import Settings
from tests.core.given import NOW, NOW_SECONDS, NOWHERE, OTHER, VIP, mirror, settings, user, values

SENT: dict[str, Any] = {"email": "ann@example.com", "hull_segments": ["VIP"]}
CREATED = datetime(2025, 6, 1, tzinfo=UTC)
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
    assert decided(user(email="new@example.com"), bits=OTHER, sent=mirror(SENT)) == Decision("skip", "left_kept")


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
    assert decision == Decision(
        "create", "entered", CustomerId("id", "42"), attributes, attributes, timestamp=NOW_SECONDS
    )


def test_who_has_another_customer_id_now_is_not_touched() -> None:
    decision = decided(user(external_id="43"), sent=mirror(SENT))

    assert decision == Decision("skip", "customer_id_changed", CustomerId("id", "42"))


def test_an_opt_out_from_before_the_create_that_it_missed_is_sent() -> None:
    opted_out = user(opted_out=True, opt_changed_at=BEFORE_CREATE)
    decision = decided(opted_out, sent=mirror(SENT))

    assert decision == Decision(
        "update",
        "opted_out",
        CustomerId("id", "42"),
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
        CustomerId("id", "42"),
        {"plan": "pro", "old": None},
        {**SENT, "plan": "pro"},
        timestamp=NOW_SECONDS,
    )


# The table once more, as data: the first row whose condition holds wins, in every combination of conditions.


@dataclass(frozen=True)
class Case:
    inside: bool
    mirrored: bool
    from_webhooks: bool
    id_value: str | None
    taken: bool
    email: str | None
    email_required: bool
    missed_opt_out: bool
    stale: bool

    @property
    def other_id(self) -> bool:
        return self.id_value not in ("42", None)


TABLE: list[tuple[Callable[[Case], bool], tuple[str, str]]] = [
    (lambda case: not case.inside and not case.mirrored, ("skip", "not_in_segment")),
    (lambda case: not case.inside and case.mirrored, ("skip", "left_kept")),
    (lambda case: not case.mirrored and case.from_webhooks, ("skip", "only_from_customerio")),
    (lambda case: not case.mirrored and case.id_value is None, ("skip", "no_customer_id")),
    (lambda case: not case.mirrored and case.id_value == "..", ("skip", "bad_customer_id")),
    (lambda case: not case.mirrored and case.taken, ("skip", "customer_id_taken")),
    (lambda case: not case.mirrored and case.email is None and case.email_required, ("skip", "no_email")),
    (lambda case: not case.mirrored, ("create", "entered")),
    (lambda case: case.other_id, ("skip", "customer_id_changed")),
    (lambda case: case.missed_opt_out, ("update", "opted_out")),
    (lambda case: not case.stale, ("skip", "unchanged")),
    (lambda _case: True, ("update", "changed")),
]

TRUTHS = (False, True)
CASES = [
    Case(*facts)
    for facts in itertools.product(
        TRUTHS, TRUTHS, TRUTHS, ("42", None, "..", "43"), TRUTHS, (None, "ann@example.com"), TRUTHS, TRUTHS, TRUTHS
    )
]


def decided_for(case: Case) -> Decision:
    email = {"email": case.email} if case.email else {}
    sent = {**email, "hull_segments": ["Old"] if case.stale else ["VIP"]}
    given_user = user(
        external_id=case.id_value,
        email=case.email,
        known_by="customerio" if case.from_webhooks else "own",
        opted_out=case.missed_opt_out,
        opt_changed_at=BEFORE_CREATE if case.missed_opt_out else None,
    )
    return decided(
        given_user,
        bits=VIP if case.inside else OTHER,
        sent=mirror(sent) if case.mirrored else None,
        taken=case.taken,
        by=settings(require_email=case.email_required),
    )


def test_in_every_combination_the_first_row_that_matches_wins() -> None:
    winners = set()
    for case in CASES:
        row = next(number for number, (holds, _) in enumerate(TABLE) if holds(case))
        assert verdict(decided_for(case)) == TABLE[row][1], case
        winners.add(row)

    assert winners == set(range(len(TABLE)))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(first, second, id=f"{TABLE[first][1][1]} before {TABLE[second][1][1]}")
        for first, second in itertools.combinations(range(len(TABLE)), 2)
        if any(TABLE[first][0](case) and TABLE[second][0](case) for case in CASES)
    ],
)
def test_of_two_rows_that_match_the_upper_one_wins(first: int, second: int) -> None:
    both = [
        case
        for case in CASES
        if TABLE[first][0](case) and TABLE[second][0](case) and not any(holds(case) for holds, _ in TABLE[:first])
    ]

    assert both
    assert {verdict(decided_for(case)) for case in both} == {TABLE[first][1]}


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


def test_what_is_too_long_from_the_start_is_left_out_with_its_reason() -> None:
    decision = decided(user(attributes={"bio": "x" * 1001}), by=settings(attributes=["bio"]))

    assert decision.changes == decision.attributes == SENT
    assert [(each.name, each.reason) for each in decision.left_out] == [("bio", "value_too_long")]


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
        assert verdict(again) == ("skip", "unchanged")
