"""Settings that can be used, and what is odd about them."""

from __future__ import annotations

from typing import Any

import msgspec

from connector.core import mapping, remarks
from connector.records import User
from connector.settings import Settings

EVERYONE = {"everyone": True}
USER = User("U1", "1", "a@b.co", {}, "own", None, opted_out=False, opt_changed_at=None, version=1)


def settings(*names: str, internal: str | None = None, **people: Any) -> Settings:
    segments: dict[str, Any] = dict.fromkeys(names, EVERYONE)
    if internal is not None:
        segments[internal] = EVERYONE | {"internal": True}
    return Settings.model_validate({"segments": segments, "people": people})


def told(of: Settings) -> list[str]:
    return [each.reason for each in remarks.remarks(of)]


def test_settings_as_they_should_be_get_no_remark() -> None:
    assert told(Settings()) == []
    assert told(settings("Paying", "Asleep")) == []


def test_segment_names_that_no_person_could_carry_together_are_told_from_the_byte_on_that_is_too_much() -> None:
    for letter in ("x", "ä", '"'):
        one = len(msgspec.json.encode(letter)) - 2
        room = 1000 - len(msgspec.json.encode(["VIP", letter, ""]))
        for longest, too_long in ((room, False), (room + 1, True)):
            names = settings("VIP", letter, "y" * longest)
            assert told(names) == (["segments_too_long"] if too_long else []), one
            _, left_out = mapping.attributes(USER, "111", names)
            assert [each.reason for each in left_out] == told(names)


def test_the_remark_says_how_long_they_are_and_what_to_do() -> None:
    (remark,) = remarks.remarks(settings("a" * 600, "b" * 600, segments_attribute="in_segments"))
    assert "1,207 bytes together, and Customer.io takes 1,000" in remark.message
    assert "in_segments" in remark.message
    assert "make some internal" in remark.message


def test_names_that_are_not_sent_do_not_count() -> None:
    assert told(settings("a" * 600, internal="b" * 600)) == []
    assert told(settings("a" * 600, "b" * 600, segments_attribute="")) == []


def test_patterns_of_pages_that_are_not_sent_are_told() -> None:
    for names, expected in ((["Order *"], ["pages_not_sent"]), (["Order *", "page"], [])):
        by = Settings.model_validate({"events": {"names": names, "pages": ["/pricing*"]}})
        assert told(by) == expected
