"""What webhooks are called as events."""

from __future__ import annotations

import pytest

from connector.core import naming


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("email.drafted", "Email Drafted"),
        ("email.attempted", "Email Attempted"),
        ("email.sent", "Email Sent"),
        ("email.delivered", "Email Delivered"),
        ("email.opened", "Email Opened"),
        ("email.clicked", "Email Link Clicked"),
        ("email.converted", "Email Converted"),
        ("email.unsubscribed", "Email Unsubscribed"),
        ("email.subscribed", "Email Subscribed"),
        ("email.bounced", "Email Bounced"),
        ("email.dropped", "Email Dropped"),
        ("email.spammed", "Email Marked as Spam"),
        ("email.failed", "Email Failed"),
        ("email.undeliverable", "Email Undeliverable"),
        ("email.deferred", "Email Deferred"),
        ("customer.subscribed", "Customer Subscribed"),
        ("customer.unsubscribed", "Customer Unsubscribed"),
        ("customer.cio_subscription_preferences_changed", "Customer Subscription Preferences Changed"),
    ],
)
def test_each_kind_has_the_name_that_the_field_knows(kind: str, name: str) -> None:
    assert naming.name(kind, {}) == name


@pytest.mark.parametrize(
    ("object_type", "metric"),
    [("email", ""), ("", "sent"), (None, "sent"), ("email", None), ("em\nail", "sent"), ("x" * 81, "sent"), (1, 2)],
)
def test_what_is_no_word_names_no_kind(object_type: object, metric: object) -> None:
    assert naming.kind(object_type, metric) is None


@pytest.mark.parametrize(
    ("event_type", "kind", "name"),
    [
        ("email_opened", "email.opened", "Email Opened"),
        ("customer_unsubscribed", "customer.unsubscribed", "Customer Unsubscribed"),
        ("in_app_clicked", "in_app.clicked", "In-App Message Link Clicked"),
        ("pigeon_has_landed", "pigeon.has_landed", "Pigeon Has Landed"),
        ("pigeon", "pigeon.reported", "Pigeon Reported"),
        ("email_", "email.reported", "Email Reported"),
        ("_landed", "_landed.reported", "Landed Reported"),
        ("_", "_.reported", "_ Reported"),
    ],
)
def test_an_old_type_is_a_kind_with_a_type_and_a_metric(event_type: str, kind: str, name: str) -> None:
    assert naming.legacy_kind(event_type) == kind
    assert naming.name(kind, {}) == name


def test_no_name_is_blank_and_none_begins_or_ends_with_a_blank() -> None:
    assert naming.name("_._", {}) == "_ _"
    assert naming.name("email._", {}) == "Email _"


def test_what_the_settings_say_goes_first() -> None:
    assert naming.name("email.clicked", {"email.clicked": "Clicked"}) == "Clicked"


@pytest.mark.parametrize(
    ("patterns", "is_ignored"),
    [
        ((), False),
        (("email.drafted",), True),
        (("*.drafted",), True),
        (("email.*",), True),
        (("sms.*", "*.sent"), False),
        (("email",), False),
    ],
)
def test_kinds_are_ignored_by_pattern(patterns: tuple[str, ...], is_ignored: bool) -> None:
    assert naming.ignored("email.drafted", patterns) is is_ignored


def test_no_two_kinds_share_a_name() -> None:
    assert len(set(naming.NAMES.values())) == len(naming.NAMES)
