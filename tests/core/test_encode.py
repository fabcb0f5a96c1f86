"""Decisions as bytes: parts of an identify, operations, bodies, batches."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from connector.core import encode, mapping
from connector.core.encode import Delete, Identify, Work
from connector.records import CustomerId, Decision, Verb
from tests.core.given import values

ANN = CustomerId("id", "42")
AT = 1_700_000_000
# Names and values at their limits; quotes, backslashes and controls are longer as JSON.
LONGEST_ID = CustomerId("email", "\x01" * 150)


def decision(
    changes: dict[str, Any],
    verb: Verb = "update",
    customer_id: CustomerId | None = ANN,
    attributes: Any = None,
    renamed: CustomerId | None = None,
) -> Decision:
    kept = changes if attributes is None else attributes
    return Decision(verb, "changed", customer_id, renamed, changes, kept, timestamp=AT)


def identifies(given_decision: Decision, most: int) -> list[Identify]:
    found = encode.parts(given_decision, most)
    assert all(isinstance(part, Identify) for part in found)
    return [part for part in found if isinstance(part, Identify)]


def attributes_of(parts: list[Identify]) -> list[dict[str, Any]]:
    return [part.attributes for part in parts]


def numbered(count: int) -> dict[str, Any]:
    return {f"a{number}": number for number in range(count)}


def test_a_decision_without_a_customer_id_cannot_be_encoded() -> None:
    with pytest.raises(ValueError, match=r"delete \(left\) names no customer id"):
        encode.parts(Decision("delete", "left"), 30)


@pytest.mark.parametrize("verb", ["skip", "postpone"])
def test_who_is_left_alone_has_nothing_to_send(verb: Verb) -> None:
    assert encode.parts(decision({"a": 1}, verb), 30) == ()


def test_a_delete_is_one_part_whatever_the_person_has() -> None:
    assert encode.parts(decision(numbered(100), "delete"), 30) == (Delete(ANN, AT),)


def test_the_part_that_carries_another_id_says_so_and_no_other_does() -> None:
    new = CustomerId("id", "43")
    parts = identifies(decision({"id": "43", **numbered(3)}, customer_id=CustomerId("cio_id", "ab"), renamed=new), 2)

    assert [part.renamed for part in parts] == [new, None]
    assert attributes_of(parts) == [{"id": "43", "a0": 0}, {"a1": 1, "a2": 2}]


def test_what_fits_is_one_part() -> None:
    changes = numbered(30)

    assert identifies(decision(changes), 30) == [Identify(ANN, changes, AT)]


def test_one_more_than_fits_makes_a_second_part_of_the_same_moment() -> None:
    changes = numbered(31)
    first, second = identifies(decision(changes), 30)

    assert first == Identify(ANN, numbered(30), AT)
    assert second == Identify(ANN, {"a30": 30}, AT)


def test_a_create_without_attributes_is_still_sent() -> None:
    assert identifies(decision({}, "create"), 30) == [Identify(ANN, {}, AT)]


def test_a_create_with_nothing_but_an_opt_out_is_one_part() -> None:
    assert identifies(decision({"unsubscribed": True}, "create"), 30) == [Identify(ANN, {"unsubscribed": True}, AT)]


def test_the_opt_out_is_in_every_part_of_a_create_and_counts_there() -> None:
    parts = identifies(decision({"a": 1, "b": 2, "unsubscribed": True, "c": 3, "d": 4, "e": 5}, "create"), 3)

    assert attributes_of(parts) == [
        {"unsubscribed": True, "a": 1, "b": 2},
        {"unsubscribed": True, "c": 3, "d": 4},
        {"unsubscribed": True, "e": 5},
    ]


def test_the_preferences_are_in_every_part_of_a_create_too() -> None:
    chosen = {"cio_subscription_preferences": {"topics": {"topic_1": False}}}
    consent = {"unsubscribed": True, **chosen}
    parts = identifies(decision({"a": 1, "unsubscribed": True, "b": 2, **chosen}, "create"), 3)

    assert attributes_of(parts) == [{**consent, "a": 1}, {**consent, "b": 2}]


def test_long_preferences_leave_that_much_less_room_in_each_part() -> None:
    topics = {"topics": {f"topic_{number}": False for number in range(800)}}
    changes = {f"a{number}": "x" * 1000 for number in range(40)}
    parts = identifies(decision({**changes, "cio_subscription_preferences": topics}, "create"), 300)

    assert len(parts) > 2
    assert all(len(encode.operation(part)) < 32_000 for part in parts)


def test_the_opt_out_goes_once_in_an_update() -> None:
    parts = identifies(decision({"a": 1, "unsubscribed": True, "b": 2}), 2)

    assert attributes_of(parts) == [{"a": 1, "unsubscribed": True}, {"b": 2}]


def test_an_update_that_does_not_change_the_opt_out_does_not_carry_it() -> None:
    parts = identifies(decision({"a": 1, "b": 2}, attributes={"a": 1, "b": 2, "unsubscribed": True}), 1)

    assert attributes_of(parts) == [{"a": 1}, {"b": 2}]


def test_with_room_for_one_attribute_a_create_still_sends_all_of_them() -> None:
    parts = identifies(decision({"unsubscribed": True, "a": 1, "b": 2}, "create"), 1)

    assert attributes_of(parts) == [{"unsubscribed": True, "a": 1}, {"unsubscribed": True, "b": 2}]


def test_an_attribute_too_large_for_any_operation_goes_alone() -> None:
    huge = "x" * 40_000

    assert attributes_of(identifies(decision({"a": huge, "b": 1}), 30)) == [{"a": huge}, {"b": 1}]


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda name: name != "unsubscribed")
changed = st.dictionaries(names, values | st.none(), max_size=12)
# Few attributes, and as large as they may be: 150 and 1,000 bytes, which JSON can make six times as long.
large = st.dictionaries(
    st.integers(0, 99).map(lambda number: f"{number:03}" + "\x01" * 147),
    st.sampled_from(["x" * 1000, "\x01" * 1000, '"' * 1000, "é" * 500, 1, None]),
    max_size=60,
)


@given(changed | large, st.booleans(), st.sampled_from(["create", "update"]), st.integers(2, 300))
def test_the_parts_are_together_the_changes_each_within_the_limits(
    changes: dict[str, Any], opted_out: bool, verb: Verb, most: int
) -> None:
    given_changes = {**changes, "unsubscribed": True} if opted_out else changes
    parts = identifies(decision(given_changes, verb, LONGEST_ID), most)

    in_every_part = {"unsubscribed"} if opted_out and verb == "create" else set()
    rest = [(name, value) for part in parts for name, value in part.attributes.items() if name not in in_every_part]
    # Disjoint, complete, and in order.
    assert rest == [item for item in given_changes.items() if item[0] not in in_every_part]
    for part in parts:
        assert len(part.attributes) <= most
        assert in_every_part <= part.attributes.keys()
        assert (part.customer_id, part.timestamp) == (LONGEST_ID, AT)
        assert len(encode.operation(part)) < 32_000
        assert len(encode.body(part)) < 32_000
    assert len(parts) == 1 or all(part.attributes.keys() - in_every_part for part in parts)


@given(large, st.integers(2, 300))
def test_a_part_ends_only_when_the_next_attribute_would_not_fit(changes: dict[str, Any], most: int) -> None:
    parts = identifies(decision(changes), most)

    for part, following in itertools.pairwise(parts):
        next_name, next_value = next(iter(following.attributes.items()))
        one_more = Identify(ANN, {**part.attributes, next_name: next_value}, AT)
        assert len(part.attributes) == most or len(encode.operation(one_more)) > 30_000


def test_an_operation_is_an_entry_of_a_v2_batch() -> None:
    part = Identify(CustomerId("email", "ann@example.com"), {"plan": "pro", "old": None, "ids": [1, True]}, AT)

    assert msgspec.json.decode(encode.operation(part)) == {
        "type": "person",
        "action": "identify",
        "identifiers": {"email": "ann@example.com"},
        "timestamp": AT,
        "attributes": {"plan": "pro", "old": None, "ids": [1, True]},
    }


def test_a_delete_is_an_entry_that_names_the_person_and_no_time() -> None:
    assert msgspec.json.decode(encode.operation(Delete(ANN, AT))) == {
        "type": "person",
        "action": "delete",
        "identifiers": {"id": "42"},
    }


@pytest.mark.parametrize(
    ("customer_id", "expected"),
    [
        (ANN, "42"),
        (CustomerId("email", "ann@example.com"), "ann@example.com"),
        (CustomerId("cio_id", "d9c1"), "cio_d9c1"),
    ],
)
def test_in_a_path_of_v1_the_prefix_tells_the_kind_of_an_id(customer_id: CustomerId, expected: str) -> None:
    assert encode.path_of(customer_id) == expected


def test_a_body_is_flat_and_carries_its_moment_under_the_name_of_v1() -> None:
    body = msgspec.json.decode(encode.body(Identify(ANN, {"plan": "pro", "id": 7, "timestamp": 1}, AT)))

    assert body == {"plan": "pro", "id": 7, "timestamp": 1, "_timestamp": AT}


def test_text_is_sent_as_utf_8_and_numbers_to_the_last_digit() -> None:
    operation = encode.operation(Identify(ANN, {"name": "Änne 😀", "big": 10**30}, AT))

    assert "Änne 😀".encode() in operation
    assert b"1000000000000000000000000000000" in operation


@given(changed)
def test_what_is_encoded_is_what_was_wanted(changes: dict[str, Any]) -> None:
    part = Identify(ANN, changes, AT)

    assert msgspec.json.decode(encode.operation(part))["attributes"] == changes
    assert msgspec.json.decode(encode.body(part)) == {**changes, "_timestamp": AT}


def joined(batch: list[Work]) -> bytes:
    return b'{"batch":[' + b",".join(part for work in batch for part in work.parts) + b"]}"


def test_without_work_there_is_no_batch() -> None:
    assert list(encode.batches([])) == []


def test_works_fill_a_batch_to_the_limit_and_start_the_next_one_above_it() -> None:
    def batches(size: int) -> list[list[Work]]:
        return list(encode.batches([Work("a", (b"x" * 250_000,)), Work("b", (b"y" * size,))]))

    # 12 bytes of envelope, and each part with its comma.
    room = encode.MAX_BATCH_BYTES - 12 - 250_001 - 1
    assert [len(batch) for batch in batches(room)] == [2]
    assert len(joined(batches(room)[0])) == encode.MAX_BATCH_BYTES - 1
    assert [len(batch) for batch in batches(room + 1)] == [1, 1]


def test_the_parts_of_one_user_are_never_torn_apart() -> None:
    works = [Work(str(number), (b"x" * 30_000,) * 4) for number in range(10)]

    assert [[work.user_id for work in batch] for batch in encode.batches(works)] == [
        ["0", "1", "2", "3"],
        ["4", "5", "6", "7"],
        ["8", "9"],
    ]


def test_a_user_too_large_for_any_batch_goes_alone() -> None:
    small, huge = Work("small", (b"{}",)), Work("huge", (b"x" * 31_000,) * 20)

    assert list(encode.batches([small, huge, small])) == [[small], [huge], [small]]
    assert list(encode.batches([huge, small])) == [[huge], [small]]


works = st.lists(
    st.builds(
        lambda sizes: Work("user", tuple(b"x" * size for size in sizes)),
        st.lists(st.sampled_from([2, 1_000, 31_999]), min_size=1, max_size=10),
    ),
    max_size=60,
)


@given(works)
def test_batches_keep_all_works_in_order_under_the_limit_and_are_as_few_as_that_allows(given_works: list[Work]) -> None:
    batches = list(encode.batches(given_works))

    assert [work for batch in batches for work in batch] == given_works
    assert all(batch and len(joined(batch)) < 500_000 for batch in batches)
    for batch, following in itertools.pairwise(batches):
        assert len(joined([*batch, following[0]])) >= encode.MAX_BATCH_BYTES


def visiting(verb: Verb, changes: dict[str, Any], *anonymous_ids: str) -> list[dict[str, Any]]:
    """The attributes of the parts that tell of these visitors, three attributes at most in each."""
    told = replace(decision(changes, verb), anonymous_ids=anonymous_ids)
    return attributes_of(identifies(told, 3))


def test_the_first_visitor_goes_with_the_person_and_each_further_one_by_themselves() -> None:
    assert visiting("update", {"a": 1}, "v1") == [{"anonymous_id": "v1", "a": 1}]
    assert visiting("update", {}, "v1", "v2") == [{"anonymous_id": "v1"}, {"anonymous_id": "v2"}]
    assert visiting("update", numbered(3), "v1", "v2", "v3") == [
        {"anonymous_id": "v1", "a0": 0, "a1": 1},
        {"a2": 2},
        {"anonymous_id": "v2"},
        {"anonymous_id": "v3"},
    ]


def test_whatever_part_makes_the_person_says_that_they_have_opted_out() -> None:
    parts = visiting("create", {"unsubscribed": True, **numbered(3)}, "v1", "v2")
    assert parts == [
        {"unsubscribed": True, "anonymous_id": "v1", "a0": 0},
        {"unsubscribed": True, "a1": 1, "a2": 2},
        {"unsubscribed": True, "anonymous_id": "v2"},
    ]


def test_as_many_visitors_as_are_told_at_a_time_fit_into_a_call() -> None:
    longest = tuple("x" * mapping.MAX_VALUE_BYTES for _ in range(mapping.MOST_ANONYMOUS_IDS))
    most = {f"{number:0150}": "x" * mapping.MAX_VALUE_BYTES for number in range(mapping.MAX_ATTRIBUTES)}
    told = replace(decision({"unsubscribed": True, **most}, "create", LONGEST_ID), anonymous_ids=longest)
    operations = [encode.operation(part) for part in encode.parts(told, 30)]
    assert Work("u", tuple(operations)).size + encode.ENVELOPE_BYTES <= encode.MAX_BATCH_BYTES
