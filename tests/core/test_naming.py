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
    assert naming.name(kind) == name


@pytest.mark.parametrize("kind", ["email.teleported", "carrier_pigeon.sent", "email.", "", ".", "Email.Opened"])
def test_a_kind_that_is_not_known_has_no_name(kind: str) -> None:
    assert naming.name(kind) is None


def test_no_two_kinds_share_a_name() -> None:
    assert len(set(naming.NAMES.values())) == len(naming.NAMES)
