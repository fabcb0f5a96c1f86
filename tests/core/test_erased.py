"""Whom something is about when a person who was erased is named in it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from connector.core import decide, erased
from connector.records import Identifier, Subject, User, UserRow
from connector.settings import Settings

NOW = datetime(2026, 3, 1, tzinfo=UTC)
GONE = frozenset(
    {
        Identifier("external_id", "42"),
        Identifier("email", "ann@b.co"),
        Identifier("anonymous_id", "device"),
    }
)
ANN = User("U1", "42", "Ann@B.co", {}, "own", None, opted_out=False, opt_changed_at=None, version=1)


def names(*said: str) -> list[Identifier]:
    """From `kind:value`."""
    return [Identifier(*each.split(":")) for each in said]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "is_theirs"),
    [
        ((), False),
        (("external_id:42",), True),
        (("external_id:42", "email:living@b.co"), True),
        (("email:ann@b.co",), True),
        (("anonymous_id:device",), True),
        (("external_id:new", "email:ann@b.co"), True),
        (("external_id:new", "email:new@b.co"), False),
        (("external_id:living", "email:ann@b.co"), False),
        (("external_id:new", "anonymous_id:device"), False),
        (("external_id:new", "anonymous_id:device", "email:ann@b.co"), True),
    ],
)
def test_the_strongest_identifier_that_says_something_decides(said: tuple[str, ...], is_theirs: bool) -> None:
    living = names("external_id:living", "email:living@b.co")
    assert erased.is_about(names(*said), GONE, living.__contains__) is is_theirs


def test_a_row_of_somebody_else_loses_the_address_and_the_device() -> None:
    row = UserRow("77", "Ann@b.co", "device", None)
    assert erased.without(row, GONE) == UserRow("77", None, None, None)
    other = UserRow("77", "new@b.co", "new", None)
    assert erased.without(other, GONE) is other
    assert erased.without(row, frozenset()) is row
    assert erased.without(UserRow("77", None, None, None), GONE) == UserRow("77", None, None, None)


def test_a_user_is_named_by_their_ids_and_address_and_by_what_would_be_sent() -> None:
    assert erased.names(ANN, "c1") == names("external_id:42", "email:ann@b.co", "customer_id:c1")
    assert erased.names(replace(ANN, external_id=None, email=None), None) == []


def test_in_a_text_an_identifier_is_found_as_a_word_when_it_is_long_enough() -> None:
    words = erased.pattern(["ann@b.co", "42", "u1042"])
    assert words is not None
    assert words.search('{"to": "ANN@b.co"}')
    assert words.search("u1042,pro")
    for other in ("joann@b.co", "ann@b.com", "u10422", "42"):
        assert words.search(other) is None
    assert erased.pattern(["42"]) is None


def test_who_is_named_by_what_was_an_erased_persons_is_skipped_whatever_else_is_due() -> None:
    decision = decide.decide(Subject(ANN, "", None, erased=True), Settings(), NOW)
    assert (decision.verb, decision.reason) == ("skip", "erased")
