"""What `check` says about webhooks: from the settings, and from what arrived."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from connector.commands import check_webhooks
from connector.records import Received
from connector.settings import Server, Settings
from connector.settings import Webhooks as WebhookSettings
from connector.store import inbox, refusals
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW, webhook

KEY = (SecretStr("the signing key"),)
URL = "https://connector.example.com"
HOUR = timedelta(hours=1)
PREFERENCES = "customer.cio_subscription_preferences_changed"


def settings(public_url: str = URL, **webhooks: Any) -> Settings:
    return Settings(
        server=Server(public_url=public_url), webhooks=WebhookSettings(**({"signing_keys": KEY} | webhooks))
    )


def said(of: Settings) -> list[tuple[str, str]]:
    return [(line.level, line.message) for line in check_webhooks.from_settings(of)]


def warned(db: Database, of: Settings | None = None) -> list[str]:
    lines = check_webhooks.from_store(db, settings() if of is None else of, NOW)
    return [line.message for line in lines if line.level == "warning"]


def arrived(db: Database, *bodies: bytes, at: datetime = NOW) -> None:
    db.write(inbox.append, inbox.CUSTOMERIO, given.received(*bodies, at=at))


def test_with_a_key_and_an_https_url_all_is_well() -> None:
    assert said(settings()) == [("ok", f"the webhook URL is {URL}/webhooks/customerio")]


def test_without_any_key_webhooks_are_off() -> None:
    [(level, message), _] = said(settings(signing_keys=()))
    assert level == "warning"
    assert message.startswith("off: webhooks.signing_keys is empty")


def test_a_url_key_alone_takes_no_signed_webhooks_and_is_never_printed() -> None:
    found = said(settings(signing_keys=(), url_key=SecretStr("hush")))
    assert [level for level, _ in found] == ["warning", "ok"]
    assert "signing key" in found[0][1]
    assert found[1][1].endswith("for webhooks without a signature add ?key= and webhooks.url_key")
    assert "hush" not in str(found)


def test_a_url_that_is_http_or_missing_is_warned_about() -> None:
    [(level, message), (_, url)] = said(settings("http://connector.example.com"))
    assert (level, "in the clear" in message) == ("warning", True)
    assert url == "the webhook URL is http://connector.example.com/webhooks/customerio"
    [(level, message)] = said(settings(""))
    assert level == "warning"
    assert "server.public_url is empty" in message


def test_a_renamed_kind_that_nobody_knows_is_told_with_the_one_that_was_meant() -> None:
    names = {"email.clicked": "Click", "email.clickd": "Click", "pigeon.landed": "Landed"}
    found = [message for level, message in said(settings(names=names)) if level == "warning"]
    assert found == [
        'webhooks.names: "email.clickd" is no kind that is known; did you mean "email.clicked"?',
        'webhooks.names: "pigeon.landed" is no kind that is known; the name is used should one arrive',
    ]


def test_no_webhook_so_far_says_what_to_do(db: Database) -> None:
    [message] = warned(db)
    assert message.startswith("none has arrived")
    assert "Send test" in message
    assert warned(db, settings(signing_keys=())) == []


def test_the_last_webhook_is_told_and_warned_about_after_a_day(db: Database) -> None:
    arrived(db, webhook("a"), at=NOW - 24 * HOUR)
    [line] = check_webhooks.from_store(db, settings(), NOW)
    assert (line.level, line.message) == ("ok", "the last one arrived 2026-02-28 12:00 UTC")
    [line] = check_webhooks.from_store(db, settings(), NOW + HOUR)
    assert line.level == "warning"
    assert "2026-02-28 12:00 UTC, more than 24 hours ago" in line.message


def test_refusals_after_the_last_webhook_that_was_taken_say_that_the_key_differs(db: Database) -> None:
    arrived(db, webhook("a"), at=NOW - 2 * HOUR)
    db.write(refusals.add, "bad_signature", 1234, NOW - HOUR)
    db.write(refusals.add, "some_other_reason", 1, NOW)
    [message] = warned(db)
    assert message.startswith("1,234 refused for a wrong signature since 2026-03-01 11:00 UTC, the last")
    assert "webhooks.signing_keys differ from Customer.io's" in message


def test_refusals_before_any_webhook_was_taken_say_that_the_key_differs(db: Database) -> None:
    db.write(refusals.add, "bad_signature", 1, NOW)
    assert any("signing_keys differ" in message for message in warned(db))


def test_refusals_go_on_after_others_were_taken_when_the_key_was_changed(db: Database) -> None:
    db.write(refusals.add, "bad_signature", 1, NOW - 3 * HOUR)
    arrived(db, webhook("a"), at=NOW - 2 * HOUR)
    db.write(refusals.add, "bad_signature", 1, NOW)
    [message] = warned(db)
    assert "and none taken since: webhooks.signing_keys differ" in message


def test_a_refusal_right_after_one_that_was_taken_does_not_accuse_the_key(db: Database) -> None:
    arrived(db, webhook("a"), at=NOW - HOUR / 60)
    db.write(refusals.add, "bad_signature", 1, NOW)
    [message] = warned(db)
    assert "some requests carry a wrong signature" in message


def test_refusals_of_long_ago_are_no_trouble(db: Database) -> None:
    db.write(refusals.add, "bad_signature", 3, NOW - 25 * HOUR)
    arrived(db, webhook("a"))
    assert warned(db) == []


def test_refusals_among_webhooks_that_are_taken_say_that_some_are_wrong(db: Database) -> None:
    db.write(refusals.add, "bad_signature", 3, NOW - HOUR)
    arrived(db, webhook("a"))
    [message] = warned(db)
    assert "some requests carry a wrong signature" in message


def test_unread_webhooks_are_counted_by_reason_with_the_command_that_reads_them(db: Database) -> None:
    given.read(db, webhook("a"), b"\xff", b"{", b"[]")
    [message] = warned(db)
    assert message.startswith("3 could not be read (2 not_json, 1 wrong_shape)")
    assert "`connector replay webhooks`" in message


def test_preferences_without_content_say_which_option_to_turn_on(db: Database) -> None:
    arrived(
        db, webhook("a", PREFERENCES, content="{}"), webhook("b", PREFERENCES), webhook("c", PREFERENCES, content="")
    )
    [message] = warned(db)
    assert message.startswith("the last 2 changes of preferences came without")
    assert '"Body Content"' in message


def test_preferences_that_have_content_by_now_are_fine(db: Database) -> None:
    arrived(db, webhook("a", PREFERENCES), webhook("b", PREFERENCES, content='{"topics": {}}'))
    assert warned(db) == []


def pair(number: int, kind: str = "email.delivered", **second: Any) -> tuple[bytes, bytes]:
    """One fact under two event ids."""
    data = {"delivery_id": f"d{number}", "recipient": "a@b.co"}
    return webhook(f"a{number}", kind, **data), webhook(f"b{number}", kind, **{**data, **second})


def singles(number: int) -> list[bytes]:
    return [webhook(f"s{each}", "email.sent", delivery_id=f"s{each}") for each in range(number)]


def test_one_event_under_two_ids_says_that_two_webhooks_are_set_up(db: Database) -> None:
    arrived(db, *pair(1), *pair(2), *pair(3, "sms.sent", content="Hi", headers={}), *singles(500))
    [message] = warned(db)
    assert message.startswith("3 of the newest 506 report what another one reports under another event_id")
    assert "remove one" in message
    assert "a@b.co" not in message


@pytest.mark.parametrize(("others", "warns"), [(10, True), (98, True), (250, False)])
def test_a_pair_or_two_are_warned_about_when_they_are_a_share_of_what_came(
    db: Database, others: int, warns: bool
) -> None:
    arrived(db, *pair(1), *pair(2)[: 2 if others == 250 else 0], *singles(others))
    assert bool(warned(db)) is warns


@pytest.mark.parametrize("kind", ["email.opened", "email.clicked", "push.opened"])
def test_what_can_happen_twice_in_a_second_is_no_pair(db: Database, kind: str) -> None:
    arrived(db, *(body for number in range(5) for body in pair(number, kind)))
    assert warned(db) == []


def test_facts_that_differ_are_no_pairs(db: Database) -> None:
    arrived(db, *(body for number in range(5) for body in pair(number, delivery_id=f"other {number}")))
    same_but_later = [
        webhook(f"t{each}", "email.attempted", at=1613063089 + each, delivery_id="d") for each in range(5)
    ]
    changes = [webhook(f"p{each}", PREFERENCES, content=f'{{"topics": {{"topic_{each}": true}}}}') for each in range(5)]
    arrived(db, *same_but_later, *changes)
    assert warned(db) == []


def test_only_the_newest_thousand_are_looked_at_and_what_is_no_webhook_is_passed_over(db: Database) -> None:
    arrived(db, *pair(1), *pair(2), *pair(3), webhook("p", PREFERENCES))
    large = Received("large", NOW, webhook("large", PREFERENCES, x="y" * 1024 * 1024), "too_large")
    db.write(inbox.append, inbox.CUSTOMERIO, [large])
    odd = (b"\xff", b"[]", json.dumps({"event_id": "x", "object_type": "email", "metric": "sent", "data": []}).encode())
    arrived(db, *odd, *singles(996))
    [message] = warned(db)
    assert "could not be read" in message
