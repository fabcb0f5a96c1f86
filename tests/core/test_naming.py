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
