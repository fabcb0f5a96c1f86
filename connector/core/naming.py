"""What Customer.io's webhooks are called as events of ours.

The names are the field's usual ones. A kind is `object_type.metric`, in the vendor's words.
"""

from __future__ import annotations

EMAIL_METRICS = {
    "drafted": "Email Drafted",
    "attempted": "Email Attempted",
    "sent": "Email Sent",
    "delivered": "Email Delivered",
    "opened": "Email Opened",
    "clicked": "Email Link Clicked",
    "converted": "Email Converted",
    "unsubscribed": "Email Unsubscribed",
    "subscribed": "Email Subscribed",
    "bounced": "Email Bounced",
    "dropped": "Email Dropped",
    "spammed": "Email Marked as Spam",
    "failed": "Email Failed",
    "undeliverable": "Email Undeliverable",
    "deferred": "Email Deferred",
}
CUSTOMER_METRICS = {
    "subscribed": "Customer Subscribed",
    "unsubscribed": "Customer Unsubscribed",
    "cio_subscription_preferences_changed": "Customer Subscription Preferences Changed",
}
NAMES = {f"email.{metric}": name for metric, name in EMAIL_METRICS.items()} | {
    f"customer.{metric}": name for metric, name in CUSTOMER_METRICS.items()
}


def name(kind: str) -> str | None:
    """The event's name for a kind; None for a kind that this version can't read."""
    return NAMES.get(kind)
