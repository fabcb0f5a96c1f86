"""What Customer.io should have of a user: the customer id, and the attributes under the names they are sent by.

Order of the attributes: email, created_at, the segments (but not the names of internal ones), an opt-out, then the
picked ones as the settings list them. Empty values (null and "") are absent here; the diff turns an attribute that was
sent and is absent now into a null. Limits are the vendor's, in bytes of UTF-8 (https://docs.customer.io/api/track/):
over them, Customer.io refuses the whole call, so the one attribute is left out with its reason and the rest goes (names
are short enough: the settings see to it):

    value_too_long      over 1,000 bytes (of its JSON, when it is no text)
    segments_too_long   likewise, of the list of segment names
    too_many            more than 300 attributes of one person
    unreadable          what the store holds there is text, a number or nesting that can't be sent on
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from connector.core import merge, times
from connector.records import CustomerId, Damaged, LeftOut, Preference, User
from connector.settings import People, Settings

MAX_VALUE_BYTES = 1000
MAX_ID_BYTES = 150
MAX_ATTRIBUTES = 300
OPT_OUT = "unsubscribed"
PREFERENCES = "cio_subscription_preferences"
ANONYMOUS_ID = "anonymous_id"
MOST_ANONYMOUS_IDS = 50  # of one person at a time: each takes an operation, and all of them go in one batch
_SHORT = MAX_VALUE_BYTES // 4  # letters, of at most four bytes each
CONSENT = frozenset({OPT_OUT, PREFERENCES})
_NOTHING: Mapping[str, Any] = {}


def memberships(bits: str, settings: Settings) -> list[str]:
    """The names of the segments whose bit is set, in the settings' order."""
    return [name for name, bit in zip(settings.segments, bits, strict=True) if bit == "1"]


def whitelisted(bits: str, settings: Settings) -> bool:
    """True when the user is in a segment whose users are sent."""
    return any(bits[position] == "1" for position in settings.whitelist)


def customer_id_value(user: User, people: People) -> tuple[str, Any]:
    """Which source of `people.customer_id` is the first with a value, and that value; ("", None) when none has."""
    for source in people.customer_id:
        value = getattr(user, source) if source in _BUILTIN else merge.at(user.attributes, source)
        if value is not None:
            return source, value
    return "", None


def customer_id(user: User, settings: Settings) -> CustomerId | str:
    """The customer id of a user, or the reason why they can't have one: `no_customer_id`, `bad_customer_id`,
    `unreadable`.

    An id of `.` or `..` would be a path of another meaning, and in v1 an id that starts with `cio_` or looks
    like an email address would be read as another kind of identifier. Blanks around it are not part of an id:
    webhooks and imports are read without them, too.
    """
    source, value = customer_id_value(user, settings.people)
    if isinstance(user.attributes, Damaged) and _has_lost_id(user.attributes, source, settings.people):
        return "unreadable"
    if value is None:
        return "no_customer_id"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return "bad_customer_id"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "bad_customer_id"
        value = int(value) if value.is_integer() else value  # 42.0 and 42 are one number, and so one person
    text = str(value).strip()
    if source == "email":
        text = text.lower()
    if text in {"", ".", ".."} or len(text.encode()) > MAX_ID_BYTES:
        return "bad_customer_id"
    found = CustomerId("email" if source == "email" else "id", text)
    return "bad_customer_id" if is_misread(found, settings) else found


def is_misread(customer_id: CustomerId, settings: Settings) -> bool:
    """Whether the person is sent through v1, whose paths tell the kind of an id by how it looks, and this one looks
    like another kind: it would be somebody else who is changed or deleted. What starts with `cio_` is read as a
    `cio_id`, what has an `@` as an email (https://docs.customer.io/api/track/#operation/identify)."""
    return settings.customerio.api == "single" and is_misread_in_path(customer_id)


def is_misread_in_path(customer_id: CustomerId) -> bool:
    """Likewise, for the one call that goes through v1 whatever the settings say."""
    if customer_id.kind == "cio_id":
        return False
    return customer_id.value.startswith("cio_") or ("@" in customer_id.value) != (customer_id.kind == "email")


def attributes(
    user: User,
    bits: str,
    settings: Settings,
    *,
    opted_out: bool | None = None,
    sent: Mapping[str, Any] = _NOTHING,
) -> tuple[dict[str, Any], tuple[LeftOut, ...]]:
    """What the person should have of us, in sending order, and what had to be left out. `opted_out` is what is said of
    their opt-out, if anything is; the picked attributes leave a place for it. What can't be sent now but was `sent`
    before stays as it was: left out, not emptied, and one of the attributes that they have."""
    people = settings.people
    wanted: dict[str, Any] = {}
    left_out: list[LeftOut] = []
    if user.email:
        _put(wanted, left_out, "email", user.email, sent)
    if user.created_at is not None:
        wanted["created_at"] = int(user.created_at.timestamp())
    if people.segments_attribute:
        names = [name for name in memberships(bits, settings) if not settings.segments[name].internal]
        if (size := _size(names)) > MAX_VALUE_BYTES:
            message = f"the segments are {size:,} bytes, 1,000 are allowed"
            left_out.append(LeftOut(people.segments_attribute, "segments_too_long", message))
            if people.segments_attribute in sent:
                wanted[people.segments_attribute] = sent[people.segments_attribute]
        else:
            wanted[people.segments_attribute] = names
    if opted_out is not None:
        wanted[OPT_OUT] = opted_out
    for pick in people.attributes:
        value = getattr(user, pick.name) if pick.name in _BUILTIN else merge.at(user.attributes, pick.name)
        if value is not None and value != "":
            if isinstance(value, str) and (pick.is_time or value[0].isdigit()):  # other text is no time
                value = times.in_seconds(value, people.zone, meant=pick.is_time)
            _put(wanted, left_out, pick.sent_as, value, sent)
    if isinstance(user.attributes, Damaged):
        _take_out_lost(wanted, left_out, user.attributes, people, sent)
    return wanted, tuple(left_out)


def says_opt_out(user: User, settings: Settings) -> bool:
    """Whether our own attribute says that they have unsubscribed; nothing but true does."""
    path = settings.people.opt_out
    return bool(path) and merge.at(user.attributes, path) is True


def preferences(known: Mapping[str, Mapping[str, Preference]]) -> dict[str, Any]:
    """What a person who is created has to have of the topics and channels that they chose and refused before
    (https://docs.customer.io/journeys/subscription-center/); empty when they never did. Where all of it is too long
    for Customer.io, what they refused, since a topic that isn't told of stands as the workspace has it."""
    chosen = {
        group: {name: entry.wanted for name, entry in entries.items()} for group, entries in known.items() if entries
    }
    if _size(chosen) > MAX_VALUE_BYTES:
        refused = {
            group: {name: False for name, wanted in each.items() if not wanted} for group, each in chosen.items()
        }
        chosen = {group: entries for group, entries in refused.items() if entries}
    return {PREFERENCES: chosen} if chosen else {}


def anonymous_ids(
    theirs: Sequence[str], told: Collection[str], settings: Settings
) -> tuple[tuple[str, ...], tuple[LeftOut, ...]]:
    """Of the visitors whom somebody turned out to be, those of whom Customer.io was not told, at most
    MOST_ANONYMOUS_IDS, and those of whom it can't be; none where visitors aren't sent."""
    if not settings.events.anonymous or not theirs:
        return (), ()
    news = [each for each in theirs if each not in told]
    short = [each for each in news if _size(each) <= MAX_VALUE_BYTES]
    left_out = []
    if len(short) < len(news):
        left_out.append(LeftOut(ANONYMOUS_ID, "value_too_long", "an anonymous id is over 1,000 bytes"))
    if len(short) > MOST_ANONYMOUS_IDS:
        message = f"of {len(short):,} anonymous ids, {MOST_ANONYMOUS_IDS} are told at a time"
        left_out.append(LeftOut(ANONYMOUS_ID, "too_many", message))
    return tuple(short[:MOST_ANONYMOUS_IDS]), tuple(left_out)


def _has_lost_id(given: Damaged, found_at: str, people: People) -> bool:
    """Whether a source that comes before the one with a value, or that one itself, can't be read."""
    tried = people.customer_id[: people.customer_id.index(found_at) + 1] if found_at else people.customer_id
    return any(given.has_lost(source) for source in tried if source not in _BUILTIN)


def _take_out_lost(
    wanted: dict[str, Any], left_out: list[LeftOut], given: Damaged, people: People, sent: Mapping[str, Any]
) -> None:
    for pick in people.attributes:
        if pick.name not in _BUILTIN and given.has_lost(pick.name):
            wanted.pop(pick.sent_as, None)
            left_out[:] = [each for each in left_out if each.name != pick.sent_as]
            left_out.append(LeftOut(pick.sent_as, "unreadable", "what the store holds can't be read"))
            if pick.sent_as in sent and len(wanted) < MAX_ATTRIBUTES:
                wanted[pick.sent_as] = sent[pick.sent_as]


def _put(wanted: dict[str, Any], left_out: list[LeftOut], name: str, value: Any, sent: Mapping[str, Any]) -> None:
    # Most are short texts, and needn't be encoded to know it.
    size = 0 if isinstance(value, str) and len(value) <= _SHORT else _size(value)
    is_known = size <= MAX_VALUE_BYTES or name in sent
    if is_known and len(wanted) >= MAX_ATTRIBUTES:
        left_out.append(LeftOut(name, "too_many", "a person has at most 300 attributes"))
    elif size <= MAX_VALUE_BYTES:
        wanted[name] = value
    else:
        left_out.append(LeftOut(name, "value_too_long", f"the value is {size:,} bytes, 1,000 are allowed"))
        if is_known:
            wanted[name] = sent[name]


def _size(value: Any) -> int:
    return len(value.encode()) if isinstance(value, str) else len(msgspec.json.encode(value))


_BUILTIN = frozenset({"id", "external_id", "email"})
