"""What is held reads the same everywhere, for one as for many."""

from __future__ import annotations

import pytest

from connector.core import guard, hold_words


def test_events_that_wait_read_as_one_or_many() -> None:
    rest = ", more than may go in 24 h: until a day has room"
    assert hold_words.events(1, 1) == f"1 event of 1 user{rest}"
    assert hold_words.events(3_000, 1_200) == f"3,000 events of 1,200 users{rest}"


@pytest.mark.parametrize(
    ("what", "one", "many"),
    [
        ("create", "1 user who was here before would be created", "1,200 users who were here before would be created"),
        (
            "delete",
            "1 person left every whitelisted segment and would be deleted",
            "1,200 people left every whitelisted segment and would be deleted",
        ),
        (
            "rename",
            "the 1 person at Customer.io would get another id",
            "all 1,200 people at Customer.io would get another id",
        ),
        (
            "event",
            "1 event that waits for guard.max_events_per_user would go",
            "1,200 events that wait for guard.max_events_per_user would go",
        ),
    ],
)
def test_what_would_happen_is_said_of_one_and_of_many(what: str, one: str, many: str) -> None:
    assert (hold_words.would(what, 1), hold_words.would(what, 1200)) == (one, many)


@pytest.mark.parametrize(
    "reason",
    [
        *sorted(guard.SUSPICIONS),
        "no_whitelist",
        "max_creates",
        "max_deletes",
        "max_delete_share",
        "max_events_per_user",
    ],
)
def test_every_reason_has_its_words(reason: str) -> None:
    words = hold_words.why(reason, 1200)
    assert words.endswith("leaves 1,200 in these 24 h") == reason.startswith("max_")


def test_all_of_it_or_some_can_be_let_go_but_a_change_of_ids_as_a_whole_only() -> None:
    assert hold_words.commands("delete", "ab12") == ["connector approve ab12", "connector approve ab12 --first 100"]
    assert hold_words.commands("rename", "ab12") == ["connector approve ab12"]
