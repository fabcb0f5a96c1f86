"""A plan adds up what would be done, whatever the guard says in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from connector.core import encode, plan
from connector.records import CustomerId, CustomerIdKind, Decision, LeftOut, Verb

NOBODY = frozenset[plan.Guarded]()
CREATES = frozenset[plan.Guarded]({"create"})


def look(
    user_id: str = "U1",
    verb: Verb = "update",
    reason: str = "changed",
    *,
    changes: dict[str, Any] | None = None,
    before: dict[str, Any] | None = None,
    parts: Sequence[bytes] = (b"{}",),
    guarded: plan.Guarded | None = None,
    kind: CustomerIdKind = "id",
    left_out: tuple[LeftOut, ...] = (),
) -> plan.Look:
    decision = Decision(verb, reason, CustomerId(kind, user_id), changes=changes or {}, left_out=left_out)
    return plan.Look(user_id, user_id, decision, before or {}, encode.Work(user_id, tuple(parts)), guarded)


def create(user_id: str = "U1", **more: Any) -> plan.Look:
    return look(user_id, "create", "entered", guarded="create", **more)


def delete(user_id: str = "U1") -> plan.Look:
    return look(user_id, "delete", "left", guarded="delete")


def skip(user_id: str = "U1", reason: str = "no_email") -> plan.Look:
    return look(user_id, "skip", reason, parts=())


def draft(*looks: plan.Look, api: str = "batch", most: int = 20, only: str | None = None) -> plan.Draft:
    made = plan.Draft(api=api, most=most, only=only)
    made.add(looks)
    return made


def test_the_visitors_whom_a_person_was_are_told_with_the_changes() -> None:
    changed = look(changes={"plan": "pro"})
    told = replace(changed, decision=msgspec.structs.replace(changed.decision, anonymous_ids=("v1", "v2")))
    assert plan.person(told, NOBODY).changes == {"plan": (None, "pro"), "anonymous_id": (None, ["v1", "v2"])}


def test_users_are_counted_by_verb_and_reason() -> None:
    made = draft(look(), look("U2"), skip("U3"), skip("U4", "unchanged"), create("U5"), delete("U6"))
    made.skip("not_in_segment", 7)
    made.skip("merged", 0)
    assert made.finish(NOBODY).decisions == {
        "update": {"changed": 2},
        "skip": {"not_in_segment": 7, "no_email": 1, "unchanged": 1},
        "create": {"entered": 1},
        "delete": {"left": 1},
    }


def test_what_the_guard_holds_is_counted_as_held_and_takes_no_call() -> None:
    made = draft(create(), create("U2"), delete("U3"))
    assert (made.waiting("create"), made.waiting("delete")) == (2, 1)
    held = made.finish(CREATES)
    assert held.decisions == {"create": {"held": 2}, "delete": {"left": 1}}
    assert (held.sending.operations, held.sending.calls) == (1, 1)
    assert {(each.user_id, each.reason) for each in held.people} == {("U1", "held"), ("U2", "held"), ("U3", "left")}


def test_who_was_let_go_before_needs_no_word_of_the_guard() -> None:
    made = draft(look("U1", "create", "entered"), create("U2"))
    assert made.waiting("create") == 1
    assert made.finish(CREATES).decisions == {"create": {"entered": 1, "held": 1}}


@pytest.mark.parametrize("held", [NOBODY, CREATES, frozenset({"delete"}), frozenset({"create", "delete"})])
@for_all(
    sizes=st.lists(
        st.tuples(st.sampled_from(["update", "create", "delete"]), st.lists(st.integers(1, 200_000), max_size=3)),
        max_size=12,
    ),
    at_once=st.integers(1, 5),
)
def test_calls_and_bytes_are_those_of_the_batches_that_the_worker_makes(
    held: frozenset[plan.Guarded], sizes: list[tuple[str, list[int]]], at_once: int
) -> None:
    looks = [
        look(f"U{number}", verb, parts=[b"x" * size for size in parts], guarded=None if verb == "update" else verb)  # type: ignore[arg-type]
        for number, (verb, parts) in enumerate(sizes)
    ]
    made = plan.Draft(api="batch", most=20)
    for start in range(0, len(looks), at_once):
        made.add(looks[start : start + at_once])
    works = [each.work for each in looks if each.work.parts and each.guarded not in held]
    bodies = [
        b'{"batch":[%s]}' % b",".join(part for work in batch for part in work.parts) for batch in encode.batches(works)
    ]
    assert made.finish(held).sending == (
        sum(len(work.parts) for work in works),
        len(bodies),
        sum(map(len, bodies)),
    )


def test_one_call_takes_one_part_with_the_single_api() -> None:
    made = draft(look(parts=[b"{}", b"[]"]), delete("U2"), api="single")
    assert made.finish(NOBODY).sending == (3, 3, 6)


def test_people_are_named_with_their_values_before_and_after_deletes_first() -> None:
    made = draft(
        create("U1", changes={"plan": "pro"}),
        look("U2", changes={"plan": "pro", "seats": None}, before={"plan": "free", "seats": 5, "kept": 1}),
        delete("U3"),
        skip("U4"),
    )
    assert made.finish(NOBODY).people == [
        plan.Person("U3", "U3", "delete", "left", {}),
        plan.Person("U2", "U2", "update", "changed", {"plan": ("free", "pro"), "seats": (5, None)}),
        plan.Person("U1", "U1", "create", "entered", {"plan": (None, "pro")}),
    ]


def test_only_the_first_people_are_named() -> None:
    made = draft(*(create(f"U{number}") for number in range(5)), look("U8"), look("U9"), most=3)
    assert [each.user_id for each in made.finish(NOBODY).people] == ["U8", "U9", "U0"]


def test_one_user_can_be_asked_for_whatever_is_due() -> None:
    made = draft(look(), skip("U2"), only="U2")
    (person,) = made.finish(NOBODY).people
    assert (person.user_id, person.decision, person.reason) == ("U2", "skip", "no_email")


def test_attributes_that_are_left_out_or_emptied_are_counted_by_name() -> None:
    too_long = LeftOut("note", "value_too_long", "…")
    made = draft(
        look("U1", changes={"plan": None, "seats": None}, left_out=(too_long,)),
        look("U2", changes={"plan": None}),
        create("U3", left_out=(too_long,)),
    )
    assert made.finish(NOBODY).left_out == {("note", "value_too_long"): 2}
    assert made.finish(CREATES).left_out == {("note", "value_too_long"): 1}
    assert made.finish(NOBODY).emptied == {"plan": 2, "seats": 1}


def test_emails_that_change_without_a_cio_id_are_counted() -> None:
    change = {"email": "new@example.com"}
    made = draft(look("U1", changes=change), look("U2", changes=change, kind="cio_id"), create("U3", changes=change))
    assert made.finish(NOBODY).emails_by_id == 1
