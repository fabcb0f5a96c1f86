"""Of a user whom nobody can read as a whole: what is sent, and what stays as it was."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from connector.core import decide, mapping
from connector.records import CustomerId, Damaged, Decision, LeftOut, Mirror, Subject, User
from connector.settings import Settings
from tests.core.given import NOW, NOWHERE, VIP, mirror, settings, user

ANN = CustomerId("id", "42")
SENT: dict[str, Any] = {"email": "ann@example.com", "hull_segments": ["VIP"]}


def damaged(attributes: dict[str, Any], *lost: str, **more: Any) -> User:
    return user(attributes=Damaged(attributes, frozenset(lost)), **more)


def left_out(*names: str) -> tuple[LeftOut, ...]:
    return tuple(LeftOut(name, "unreadable", "what the store holds can't be read") for name in names)


def decided(given_user: User, by: Settings, sent: Mirror | None = None, bits: str = VIP, **more: Any) -> Decision:
    return decide.decide(Subject(given_user, bits, sent, **more), by, NOW)


@pytest.mark.parametrize(
    ("lost", "path", "expected"),
    [
        ("a", "a", True),
        ("a", "a.b", True),
        ("a.b", "a", True),
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a", "ab", False),
        ("ab", "a", False),
        ("", "a", True),
    ],
)
def test_a_value_is_lost_with_what_it_stands_in_and_with_what_stands_in_it(
    lost: str, path: str, expected: bool
) -> None:
    assert Damaged({}, frozenset({"other", lost})).has_lost(path) is expected


def test_what_is_lost_is_left_out_and_the_rest_is_sent() -> None:
    by = settings(
        attributes=[
            "plan",
            "note",
            {"name": "account.name", "as": "company"},
            {"name": "account.size", "as": "size"},
            {"name": "id", "as": "ours"},
            "gone",
        ]
    )
    ann = damaged({"plan": "pro", "note": "x\ufffd", "account": {"name": "A\ufffd", "size": 3}}, "note", "account.name")
    wanted, left = mapping.attributes(ann, VIP, by)

    assert (wanted["plan"], wanted["size"], wanted["ours"]) == ("pro", 3, ann.id)
    assert not {"note", "company"} & wanted.keys()
    assert left == left_out("note", "company")


def test_an_attribute_is_left_out_for_one_reason() -> None:
    _, left = mapping.attributes(damaged({"note": "\ufffd" * 1001}, "note"), VIP, settings(attributes=["note"]))

    assert left == left_out("note")


def test_what_was_sent_of_the_lost_stays() -> None:
    by, sent = settings(attributes=["note"]), mirror({**SENT, "note": "old"})
    decision = decided(damaged({"note": None}, "note"), by, sent)

    assert (decision.verb, decision.reason, decision.left_out) == ("skip", "unchanged", left_out("note"))


@pytest.mark.parametrize(
    ("sources", "attributes", "lost", "expected"),
    [
        pytest.param(["crm", "external_id"], {"crm": None}, "crm", "unreadable", id="the first source"),
        pytest.param(["crm", "external_id"], {"crm": "x\ufffd"}, "crm", "unreadable", id="with what is left of it"),
        pytest.param(["external_id", "crm"], {"crm": None}, "crm", ANN, id="not asked"),
        pytest.param(["crm", "other"], {"crm": None}, "crm", "unreadable", id="no other source"),
        pytest.param(["crm", "external_id"], {"note": None}, "note", ANN, id="another attribute"),
    ],
)
def test_no_other_source_stands_in_for_an_id_that_is_lost(
    sources: list[str], attributes: dict[str, Any], lost: str, expected: CustomerId | str
) -> None:
    assert mapping.customer_id(damaged(attributes, lost), settings(customer_id=sources)) == expected


def test_with_an_id_that_is_lost_nobody_enters_and_nobody_is_updated() -> None:
    by, ann = settings(customer_id="crm"), damaged({"crm": None}, "crm")

    assert decided(ann, by) == decided(ann, by, taken=True) == Decision("skip", "unreadable")
    assert decided(ann, by, mirror({**SENT, "plan": "old"}), cio_id="c1") == Decision("skip", "unreadable", ANN)
    only_webhooks = damaged({"crm": None}, "crm", known_by="customerio")
    assert decided(only_webhooks, by) == Decision("skip", "only_from_customerio")


def test_who_leaves_leaves_under_the_id_that_was_sent_though_it_is_lost_now() -> None:
    by = settings(customer_id="crm", delete={"enabled": True, "blind": True, "grace": "1h"})
    sent = mirror(SENT, left_at=NOW - timedelta(hours=1))
    decision = decided(damaged({"crm": None}, "crm"), by, sent, NOWHERE)

    assert (decision.verb, decision.customer_id) == ("delete", ANN)
