"""What webhooks teach about users: facts for conditions, and preferences; neither sends anything by itself."""

from __future__ import annotations

from typing import Any

import pytest

from connector.settings import Settings
from connector.store import export, schema, segments
from connector.store.database import Database
from tests.store import given
from tests.store.given import webhook

EARLY, LATE = 1_700_000_000, 1_700_000_001
PREFERENCES = "customer.cio_subscription_preferences_changed"


@pytest.fixture
def ann(db: Database) -> str:
    """A user of our own, who is at Customer.io."""
    given.have(db, given.user("U1", external_id="1"))
    given.sent(db, given.person("U1", customer_id="1"))
    return "U1"


def said(event_id: str, kind: str, at: int, **data: Any) -> bytes:
    return webhook(event_id, kind, at=at, identifiers={"id": "1"}, **data)


def exported(db: Database) -> dict[str, Any]:
    (user,) = export.everything(db, "users", Settings(), given.NOW)
    return user


def test_the_newest_times_are_kept_however_late_a_webhook_arrives(db: Database, ann: str) -> None:
    given.read(db, said("a", "email.opened", LATE), said("b", "sms.delivered", EARLY))
    given.read(db, said("c", "email.opened", EARLY), said("d", "email.clicked", LATE, machine=True))
    found = exported(db)["customerio"]
    assert {name: at.timestamp() for name, at in found.items()} == {"opened_at": LATE, "delivered_at": EARLY}


def test_facts_make_nobody_pending_and_no_new_version(db: Database, ann: str) -> None:
    given.read(db, said("a", "email.opened", LATE), said("b", PREFERENCES, LATE, content='{"topics":{"t":false}}'))
    assert given.rows(db, schema.pending) == []
    assert given.rows(db, schema.users, "version") == [1]


def test_a_segment_may_ask_for_a_fact(db: Database, ann: str) -> None:
    given.have(db, given.user("U2", external_id="2"))
    table = {
        "all": [
            {"attribute": "customerio.opened_at", "exists": True},
            {"attribute": "customerio.clicked_at", "exists": False},
        ]
    }
    settings = Settings.model_validate({"segments": {"opened": table, "others": {"none": [table]}}})
    given.read(db, said("a", "email.opened", LATE))
    assert db.read(segments.sizes, settings, given.NOW) == {"opened": 1, "others": 1}


def test_each_topic_and_channel_keeps_its_newest_word(db: Database, ann: str) -> None:
    given.read(
        db,
        said("a", PREFERENCES, LATE, content='{"topics":{"topic_1":false},"channels":{"sms":true}}'),
        said("b", PREFERENCES, EARLY, content='{"topics":{"topic_1":true,"topic_2":true}}'),
    )
    assert exported(db)["preferences"] == {
        "topics": {"topic_1": False, "topic_2": True},
        "channels": {"sms": True},
    }


def test_what_nobody_has_told_is_null(db: Database, ann: str) -> None:
    assert (exported(db)["customerio"], exported(db)["preferences"]) == (None, None)


def test_a_global_preference_change_opts_out_and_a_later_one_back_in(db: Database, ann: str) -> None:
    given.read(db, said("a", PREFERENCES, EARLY, content='{"unsubscribed":true}'))
    assert given.rows(db, schema.pending, "user_id") == ["U1"]
    assert exported(db)["opted_out"] is True
    given.read(db, said("b", PREFERENCES, LATE, content='{"unsubscribed":false}'))
    assert exported(db)["opted_out"] is False


def test_who_only_shares_an_email_learns_no_consent_from_anothers_id(db: Database) -> None:
    given.have(db, given.user("U1", external_id="1", email="a@b.co"))
    given.read(db, webhook("a", "customer.unsubscribed", at=EARLY, identifiers={"id": "1"}))
    given.read(
        db,
        webhook("b", "customer.subscribed", at=LATE, identifiers={"id": "another", "email": "a@b.co"}),
        webhook(
            "c", PREFERENCES, at=LATE, content='{"topics":{"x":true}}', identifiers={"id": "another", "email": "a@b.co"}
        ),
    )
    assert (exported(db)["opted_out"], exported(db)["preferences"]) == (True, None)


def test_a_preference_with_a_nul_in_its_name_is_kept(db: Database, ann: str) -> None:
    given.read(db, said("a", PREFERENCES, LATE, content=r'{"topics":{"a\u0000b":false}}'))
    assert given.rows(db, schema.inbox, "state", "reason") == [("read", None)]
    assert exported(db)["preferences"] == {"topics": {"a\ufffdb": False}}


STRANGER = {"id": "another", "email": "a@b.co", "cio_id": "c9"}


@pytest.mark.parametrize("apart", [True, False], ids=["in batches of their own", "in one batch"])
def test_somebody_with_another_id_and_the_same_email_never_speaks_for_a_user(db: Database, apart: bool) -> None:
    given.have(db, given.user("U1", external_id="1", email="a@b.co"))
    words = [
        webhook("a", "customer.unsubscribed", at=EARLY, identifiers={"id": "1"}),
        webhook("b", "email.opened", at=EARLY, identifiers=STRANGER),
        webhook("c", "customer.subscribed", at=LATE, identifiers=STRANGER),
    ]
    for each in ([word] for word in words) if apart else (words,):
        given.read(db, *each)
    found = {user["id"]: user for user in export.everything(db, "users", Settings(), given.NOW)}
    assert (found["U1"]["opted_out"], found["U1"]["cio_id"]) == (True, None)
    assert given.rows(db, schema.events, "user_id") == ["U1"] * 3


@pytest.mark.parametrize("named", [{"cio_id": "c1"}, {"id": "77", "cio_id": "c1"}], ids=["cio_id", "id"])
@pytest.mark.parametrize("late_first", [True, False])
def test_who_is_known_by_email_alone_may_unsubscribe_and_subscribe_in_any_order(
    db: Database, named: dict[str, str], late_first: bool
) -> None:
    given.have(db, given.user("U1", email="a@b.co"))
    words = [
        webhook("a", "customer.unsubscribed", at=EARLY, identifiers={**named, "email": "a@b.co"}),
        webhook("b", "customer.subscribed", at=LATE, identifiers={**named, "email": "a@b.co"}),
    ]
    for word in reversed(words) if late_first else words:
        given.read(db, word)
    assert (exported(db)["opted_out"], exported(db)["cio_id"]) == (False, "c1")


def test_who_is_known_by_email_alone_may_subscribe_after_an_old_webhook_opted_them_out(db: Database) -> None:
    given.have(db, given.user("U1", email="a@b.co"))
    given.read(db, webhook("a", "customer.unsubscribed", at=EARLY, email_address="a@b.co"))
    given.read(db, webhook("b", "customer.subscribed", at=LATE, identifiers={"cio_id": "c1", "email": "a@b.co"}))
    assert exported(db)["opted_out"] is False


def test_nothing_from_customerio_is_due_to_be_sent(db: Database, ann: str) -> None:
    given.read(db, said("a", "email.opened", LATE), said("b", "customer.unsubscribed", LATE), said("c", "x.y", LATE))
    assert given.rows(db, schema.events, "outbound") == ["none"] * 3
