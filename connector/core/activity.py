"""A due event as an activity of Customer.io, and as the bytes that say it in v1 and v2.

Type `page` is named by its URL and has its referrer in the data; `screen` and everything else, which is `event`, keep
their names. Of a URL that is too long for a name, the query and the fragment are left out; the data have all of it. The
data are the event's properties, with times as for people: what holds an ISO 8601 time with an offset,
and any date under a name that ends in `_at` or `_date`, are unix seconds, also inside of objects.

What is left out of an activity has its reason, and the rest goes:

    reserved    recipient, from_address and reply_to would change to whom and from whom a campaign's message goes
    unreadable  what the store holds there is text, a number or nesting that can't be sent on

and so has what can't be sent at all (limits in bytes of UTF-8, https://docs.customer.io/api/track/#operation/track):

    no_name          nothing but blanks
    name_too_long    over 100 bytes; of a page, also without query and fragment
    event_too_large  data of over 100,000 bytes
    id_not_for_v1    too large for a batch, and the person has an id that v1 would read as another kind
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias
from zoneinfo import ZoneInfo

import msgspec

from connector.core import encode, mapping, merge, times
from connector.records import CustomerId, Damaged, DueEvent, LeftOut
from connector.settings import Settings, names

MAX_NAME_BYTES = 100
MAX_DATA_BYTES = 100_000
RESERVED = ("recipient", "from_address", "reply_to")
UNSENDABLE = ("no_name", "name_too_long", "event_too_large", "id_not_for_v1")
_URL = ("page_url", "page.url")
_REFERRER = ("referrer_url", "page.referrer")
# Some take 0 for no time, which is now, and what has 12 digits for milliseconds.
_EARLIEST, _LATEST = 1, 99_999_999_999
# In an operation, of all that isn't data: an id of 150 bytes and a name of 100 are six times that at worst, as JSON.
_ENVELOPE_BYTES = 1_750
_QUERY = re.compile("[?#]")

ActivityType: TypeAlias = Literal["event", "page", "screen"]


@dataclass(frozen=True, slots=True)
class Activity:
    """What Customer.io should get. `id` is the ULID by which it ignores repeats, `timestamp` is in unix seconds,
    `encoded` are the data as JSON."""

    type: ActivityType
    name: str
    id: str
    timestamp: int
    data: dict[str, Any]
    encoded: bytes = field(compare=False, repr=False)
    left_out: tuple[LeftOut, ...] = ()

    @property
    def needs_v1(self) -> bool:
        """Whether it goes alone, through v1: as an operation of a batch it might be over the limit of 32,000 bytes."""
        return len(self.encoded) + _ENVELOPE_BYTES > encode.MAX_OPERATION_BYTES


@dataclass(frozen=True, slots=True)
class Unsendable:
    """Why an event can't be an activity: one of UNSENDABLE, and a sentence about it."""

    reason: str
    message: str


def of(event: DueEvent, settings: Settings) -> Activity | Unsendable:
    """The activity that the event is.

    Its time is the event's own, in whole seconds. Customer.io takes any number of them, and for what it can't read as
    one it takes the moment of receipt, which would start campaigns; so a time before 1970 goes as the first second of
    1970, and one after the year 5138, which would look like milliseconds, as the last of those before.
    """
    data, left_out = _data(event.properties, settings)
    type_: ActivityType = "event"
    name = event.name.strip()
    if event.type == "page":
        type_ = "page"
        url = page_url(event.properties, event.context)
        name = url or "page"
        if url is not None and len(url.encode()) > MAX_NAME_BYTES:
            name = _QUERY.split(url, 1)[0].strip() or url
            if _text(event.properties, "url") is None:
                data["url"] = url
        if _text(event.properties, "referrer") is None and (found := _first(event.context, _REFERRER)) is not None:
            data["referrer"] = found
    elif event.type == "screen":
        type_ = "screen"
    if not name:
        return Unsendable("no_name", "the event has no name")
    if (size := len(name.encode())) > MAX_NAME_BYTES:
        return Unsendable("name_too_long", f"the name is {size:,} bytes, {MAX_NAME_BYTES} are allowed")
    encoded = msgspec.json.encode(data)
    if len(encoded) > MAX_DATA_BYTES:
        return Unsendable("event_too_large", f"the data are {len(encoded):,} bytes, {MAX_DATA_BYTES:,} are allowed")
    seconds = min(max(math.floor(event.occurred_at.timestamp()), _EARLIEST), _LATEST)
    return Activity(type_, name, event.activity_id, seconds, data, encoded, left_out)


def page_url(properties: Mapping[str, Any], context: Mapping[str, Any]) -> str | None:
    """The URL of a page view, without blanks around it; None when nothing says it."""
    return _text(properties, "url") or _first(context, _URL)


def v1_fault(activity: Activity, customer_id: CustomerId) -> Unsendable | None:
    """Why an activity that `needs_v1` can't go there for this person; None when it can."""
    if not mapping.is_misread_in_path(customer_id):
        return None
    size = f"the data are {len(activity.encoded):,} bytes, too many for a batch"
    return Unsendable("id_not_for_v1", f"{size}, and v1 would read the person's id as another kind of id")


def v2_operation(activity: Activity, customer_id: CustomerId) -> bytes:
    """The activity in a v2 batch, where the data are called attributes; at most 32,000 bytes unless it `needs_v1`."""
    return msgspec.json.encode(
        {
            "type": "person",
            "action": activity.type,
            "identifiers": {customer_id.kind: customer_id.value},
            "name": activity.name,
            "id": activity.id,
            "timestamp": activity.timestamp,
            "attributes": msgspec.Raw(activity.encoded),
        }
    )


def v1_body(activity: Activity) -> bytes:
    """The activity as the body of `POST /api/v1/customers/{id}/events`."""
    return msgspec.json.encode(_v1(activity))


def v1_anonymous_body(activity: Activity, anonymous_id: str) -> bytes:
    """The activity of somebody unknown as the body of `POST /api/v1/events`."""
    return msgspec.json.encode({**_v1(activity), "anonymous_id": anonymous_id})


def _v1(activity: Activity) -> dict[str, Any]:
    return {
        "name": activity.name,
        "id": activity.id,
        "type": activity.type,
        "timestamp": activity.timestamp,
        "data": msgspec.Raw(activity.encoded),
    }


def _data(properties: Mapping[str, Any], settings: Settings) -> tuple[dict[str, Any], tuple[LeftOut, ...]]:
    left_out = []
    if isinstance(properties, Damaged):
        lost = [name for name in properties if properties.has_lost(name)]
        # Where nothing is left of it, no property has a name that could be told.
        left_out += [
            LeftOut(name, "unreadable", "what the store holds can't be read") for name in lost or ["properties"]
        ]
        properties = {name: value for name, value in properties.items() if name not in lost}
    if not settings.events.pass_reserved:
        for name in RESERVED:
            if name in properties:
                left_out.append(LeftOut(name, "reserved", f"events.pass_reserved is off, {name} isn't sent"))
                properties = {each: value for each, value in properties.items() if each != name}
    return _dated(properties, settings.people.zone), tuple(left_out)


def _dated(given: Mapping[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    """A copy whose times are unix seconds. In a list, only those of the objects in it, as nothing names the others."""
    dated: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, str):
            dated[name] = times.in_seconds(value, zone, meant=names.says_time(name))
        else:
            dated[name] = _dated_inside(value, zone)
    return dated


def _dated_inside(value: Any, zone: ZoneInfo) -> Any:
    if isinstance(value, dict):
        return _dated(value, zone)
    if isinstance(value, list):
        return [_dated_inside(each, zone) for each in value]
    return value


def _first(given: Mapping[str, Any], paths: Iterable[str]) -> str | None:
    return next((found for path in paths if (found := _text(given, path)) is not None), None)


def _text(given: Mapping[str, Any], path: str) -> str | None:
    """The text at a dotted path, without blanks around it; None when there is none, or nobody can read it."""
    value = merge.at(given, path)
    if not isinstance(value, str) or (isinstance(given, Damaged) and given.has_lost(path)):
        return None
    return value.strip() or None
