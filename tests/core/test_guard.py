"""The limits on creates and deletes, and what is odd whatever they say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.core import guard
from connector.records import Seen

BY_ID = ("external_id",)


@pytest.mark.parametrize(
    ("waiting", "released", "limit"),
    [
        pytest.param(1000, 0, 1000, id="as many as the limit"),
        pytest.param(400, 600, 1000, id="as many as the limit with those of the last day"),
        pytest.param(1_000_000, 1_000_000, None, id="no limit"),
        pytest.param(0, 0, 0, id="nobody waits, and none are allowed"),
        pytest.param(0, 1001, 1000, id="nobody waits, though more than the limit went before"),
    ],
)
def test_creates_within_the_limit_are_let_go(waiting: int, released: int, limit: int | None) -> None:
    assert guard.creates(waiting=waiting, released=released, limit=limit) == guard.Verdict(held=False)


@pytest.mark.parametrize(
    ("waiting", "released", "limit", "allowed"),
    [
        pytest.param(1001, 0, 1000, 1000, id="one more than the limit"),
        pytest.param(500, 600, 1000, 400, id="more with those of the last day"),
        pytest.param(1, 1000, 1000, 0, id="one more with those of the last day"),
        pytest.param(1, 1001, 1000, 0, id="more went than the limit is by now"),
        pytest.param(1, 0, 0, 0, id="none are allowed"),
    ],
)
def test_creates_over_the_limit_are_held_all_of_them(waiting: int, released: int, limit: int, allowed: int) -> None:
    verdict = guard.creates(waiting=waiting, released=released, limit=limit)

    assert verdict == guard.Verdict(held=True, reason="max_creates", allowed=allowed)


@pytest.mark.parametrize("limit", [0, 1000, None])
def test_while_something_is_odd_every_create_is_held(limit: int | None) -> None:
    verdict = guard.creates(waiting=1, released=0, limit=limit, suspicion="store_shrank")

    assert verdict == guard.Verdict(held=True, reason="store_shrank", allowed=0)
    assert guard.creates(waiting=0, released=0, limit=limit, suspicion="store_shrank") == guard.Verdict(held=False)


def deletes(
    outside: int,
    *,
    released: int = 0,
    people: int = 1000,
    share: float = 0.05,
    limit: int | None = None,
    whitelisted: int = 1,
    suspicion: str | None = None,
) -> guard.Verdict:
    return guard.deletes(
        outside=outside,
        released=released,
        people=people,
        share=share,
        limit=limit,
        whitelisted=whitelisted,
        suspicion=suspicion,
    )


@pytest.mark.parametrize(
    "verdict",
    [
        pytest.param(deletes(0, whitelisted=0, suspicion="store_shrank", share=0, limit=0), id="nobody is outside"),
        pytest.param(deletes(50), id="as many as the share"),
        pytest.param(deletes(20, released=30), id="as many as the share with those of the last day"),
        pytest.param(deletes(9, people=9), id="of a few people, all but one from ten on"),
        pytest.param(deletes(1, released=8, people=9), id="of a few people, with those of the last day"),
        pytest.param(deletes(20, limit=20), id="as many as the limit"),
        pytest.param(deletes(1000, share=1), id="everybody, where that is allowed"),
    ],
)
def test_deletes_within_the_limits_are_let_go(verdict: guard.Verdict) -> None:
    assert verdict == guard.Verdict(held=False)


@pytest.mark.parametrize(
    ("verdict", "reason", "allowed"),
    [
        pytest.param(deletes(51), "max_delete_share", 50, id="one more than the share"),
        pytest.param(deletes(21, released=30), "max_delete_share", 20, id="one more with those of the last day"),
        pytest.param(deletes(1, released=60), "max_delete_share", 0, id="more went than the share is by now"),
        pytest.param(deletes(10, people=10), "max_delete_share", 0, id="ten of a few people"),
        pytest.param(deletes(1, released=9, people=10), "max_delete_share", 0, id="the tenth of a few people"),
        pytest.param(deletes(21, limit=20), "max_deletes", 20, id="one more than the limit"),
        pytest.param(deletes(1, released=20, limit=20), "max_deletes", 0, id="one more than the limit, in a day"),
        pytest.param(deletes(1, limit=0), "max_deletes", 0, id="none are allowed"),
        pytest.param(deletes(1, whitelisted=0), "no_whitelist", 0, id="no segment is whitelisted"),
        pytest.param(deletes(1, suspicion="other_customer_id"), "other_customer_id", 0, id="something is odd"),
        pytest.param(deletes(1, suspicion="store_shrank", whitelisted=0), "no_whitelist", 0, id="odd in two ways"),
        pytest.param(deletes(60, limit=20, suspicion="store_shrank"), "store_shrank", 0, id="odd, and over the limits"),
        pytest.param(deletes(60, limit=20), "max_deletes", 20, id="over both limits"),
    ],
)
def test_deletes_over_a_limit_are_held_all_of_them(verdict: guard.Verdict, reason: str, allowed: int) -> None:
    assert verdict == guard.Verdict(held=True, reason=reason, allowed=allowed)


@given(
    st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 3000), st.floats(0, 1), st.none() | st.integers(0, 3000)
)
def test_what_is_let_go_is_within_both_limits_and_what_is_allowed_would_be(
    outside: int, released: int, people: int, share: float, limit: int | None
) -> None:
    verdict = deletes(outside, released=released, people=people, share=share, limit=limit)
    together = outside + released

    if not verdict.held:
        assert outside == 0 or limit is None or together <= limit
        assert outside == 0 or together < 10 or together <= people * share
    else:
        assert verdict.allowed is not None
        assert 0 <= verdict.allowed < outside


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        pytest.param(None, Seen(0, BY_ID), None, id="nobody has looked before"),
        pytest.param(Seen(1000, BY_ID), Seen(1000, BY_ID), None, id="nothing has changed"),
        pytest.param(Seen(1000, BY_ID), Seen(5000, BY_ID), None, id="more users"),
        pytest.param(Seen(1000, BY_ID), Seen(800, BY_ID), None, id="a fifth fewer"),
        pytest.param(Seen(1000, BY_ID), Seen(799, BY_ID), "store_shrank", id="more than a fifth fewer"),
        pytest.param(Seen(1, BY_ID), Seen(0, BY_ID), "store_shrank", id="an empty store"),
        pytest.param(Seen(9, BY_ID), Seen(9, ("email",)), "other_customer_id", id="another attribute"),
        pytest.param(Seen(9, BY_ID), Seen(9, ("external_id", "email")), "other_customer_id", id="one more attribute"),
        pytest.param(Seen(9, ("a", "b")), Seen(9, ("b", "a")), "other_customer_id", id="another order"),
        pytest.param(Seen(1000, BY_ID), Seen(0, ("email",)), "other_customer_id", id="odd in two ways"),
    ],
)
def test_a_store_or_a_customer_id_that_is_another_one_than_at_the_last_pass_is_odd(
    before: Seen | None, now: Seen, expected: str | None
) -> None:
    assert guard.suspicion(before, now) == expected
    assert expected is None or expected in guard.SUSPICIONS


@pytest.mark.parametrize(
    ("other", "people", "is_known_otherwise"),
    [(0, 0, False), (0, 1000, False), (50, 1000, False), (51, 1000, True), (1, 1, True), (1, 20, False)],
)
def test_where_nothing_was_noted_more_than_a_few_under_other_ids_say_that_all_would_get_one(
    other: int, people: int, is_known_otherwise: bool
) -> None:
    assert guard.known_otherwise(other=other, people=people) == is_known_otherwise


@pytest.mark.parametrize(
    ("before", "users", "noted"),
    [
        pytest.param(None, 7, 7, id="the first pass"),
        pytest.param(Seen(5, BY_ID), 7, 7, id="more by themselves"),
        pytest.param(Seen(9, BY_ID), 7, 9, id="fewer never"),
    ],
)
def test_the_number_of_users_to_compare_with_is_never_lowered_by_a_pass(
    before: Seen | None, users: int, noted: int
) -> None:
    assert guard.noted(before, Seen(users, ("code",))) == Seen(noted, ("code",))
