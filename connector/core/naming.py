"""What Customer.io's webhooks are called as events of ours.

A kind is `object_type.metric`, in the vendor's words (https://docs.customer.io/api/webhooks/). The names are the
field's usual ones. A kind that nobody has documented yet is named in the same style, so that it is kept too.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

# Object types, and how the names of their events begin.
TYPES = {
    "customer": "Customer",
    "email": "Email",
    "sms": "SMS",
    "whatsapp": "WhatsApp",
    "push": "Push",
    "in_app": "In-App Message",
    "slack": "Slack Message",
    "webhook": "Webhook Message",
}

# What happened, and how the names end.
METRICS = {
    "drafted": "Drafted",
    "attempted": "Attempted",
    "sent": "Sent",
    "delivered": "Delivered",
    "opened": "Opened",
    "clicked": "Link Clicked",
    "converted": "Converted",
    "bounced": "Bounced",
    "dropped": "Dropped",
    "failed": "Failed",
    "undeliverable": "Undeliverable",
    "replied": "Replied",
    "deferred": "Deferred",
    "spammed": "Marked as Spam",
    "subscribed": "Subscribed",
    "unsubscribed": "Unsubscribed",
    "cio_subscription_preferences_changed": "Subscription Preferences Changed",
}

_EVERY_MESSAGE = ("drafted", "attempted", "sent", "clicked", "converted", "failed", "undeliverable")
# About a person, whatever the channel that caused it.
PERSON_METRICS = ("subscribed", "unsubscribed", "cio_subscription_preferences_changed")
_MESSAGE_METRICS = {
    "email": ("delivered", "opened", "bounced", "dropped", "spammed", "deferred"),
    "sms": ("delivered", "bounced", "dropped", "replied"),
    "whatsapp": ("delivered", "opened", "bounced", "dropped", "replied"),
    "push": ("delivered", "opened", "bounced", "dropped"),
    "in_app": ("opened",),
    "slack": (),
    "webhook": (),
}

NAMES = {
    f"{object_type}.{metric}": f"{label} {METRICS[metric]}"
    for object_type, label in TYPES.items()
    for metric in (
        *(() if object_type == "customer" else (*_EVERY_MESSAGE, *_MESSAGE_METRICS[object_type])),
        *PERSON_METRICS,
    )
}

_LONGEST_WORD = 80
_WORD = re.compile(r"\w[\w .-]*")


def name(kind: str, renamed: Mapping[str, str]) -> str:
    """The event's name for a kind; what `renamed` says of it (`webhooks.names`) goes first."""
    return renamed.get(kind) or NAMES.get(kind) or _built(kind)


def kind(object_type: object, metric: object) -> str | None:
    """The kind of a current webhook; None when these can't be an object type and a metric."""
    if not isinstance(object_type, str) or not isinstance(metric, str):
        return None
    return _kind(object_type, metric)


@functools.lru_cache(maxsize=4096)
def _kind(object_type: str, metric: str) -> str | None:
    return f"{object_type}.{metric}" if _is_word(object_type) and _is_word(metric) else None


def legacy_kind(event_type: object) -> str | None:
    """The kind that the old "Email Activity Webhook" calls `email_opened`; None when that can't be one."""
    if not isinstance(event_type, str) or not _is_word(event_type):
        return None
    word = event_type
    object_type = next((each for each in TYPES if word.startswith(f"{each}_")), word.partition("_")[0] or word)
    return f"{object_type}.{word[len(object_type) + 1 :] or 'reported'}"


@functools.lru_cache(maxsize=4096)
def ignored(kind: str, patterns: tuple[str, ...]) -> bool:
    """True when one of the patterns (`*.drafted`) is about this kind."""
    return any(fnmatchcase(kind, pattern) for pattern in patterns)


def _is_word(given: str) -> bool:
    return len(given) <= _LONGEST_WORD and _WORD.fullmatch(given) is not None


def _built(kind: str) -> str:
    object_type, _, metric = kind.partition(".")
    return f"{TYPES.get(object_type) or _title(object_type)} {METRICS.get(metric) or _title(metric)}"


def _title(word: str) -> str:
    """`inbox_message` becomes `Inbox Message`; letters that are capitals already stay."""
    return " ".join(part[:1].upper() + part[1:] for part in re.split(r"[_\s]+", word) if part) or word
