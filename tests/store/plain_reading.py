"""What conditions mean, read plainly in Python, user by user: nothing of it comes from the store's own reading."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from connector.core import times
from connector.settings import (
    All,
    AnyOf,
    Attribute,
    Condition,
    Event,
    Everyone,
    NoneOf,
    Reference,
    Settings,
)

MISSING = object()
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UTC_ZONE = ZoneInfo("UTC")


class Clock(NamedTuple):
    """The moment, and the zone of times that carry none."""

    now: datetime
    zone: ZoneInfo


def holds(condition: Condition, user: dict[str, Any], settings: Settings, now: datetime) -> bool:
    """Whether it does for a user: their columns, with `events` and `synced_at`."""
    clock = Clock(now, ZoneInfo(settings.people.timezone))
    match condition:
        case Everyone():
            return True
        case All(inner):
            return all(holds(each, user, settings, now) for each in inner)
        case AnyOf(inner):
            return any(holds(each, user, settings, now) for each in inner)
        case NoneOf(inner):
            return not any(holds(each, user, settings, now) for each in inner)
        case Reference(name):
            return holds(settings.segments[name].condition, user, settings, now)
        case Attribute(name, operator, value):
            return compare(looked_up(user, name), operator, value, clock)
        case Event():
            times_done = sum(counts(condition, event, clock) for event in user.get("events", ()))
            if condition.at_most is not None:
                return times_done <= condition.at_most
            return times_done >= (condition.at_least or 1)


def counts(condition: Event, event: dict[str, Any], clock: Clock) -> bool:
    """Whether an event is one of those that the condition counts."""
    if event["name"] != condition.event:
        return False
    if condition.within is not None and not clock.now - condition.within < event["occurred_at"] <= clock.now:
        return False
    return all(
        compare(path(event["properties"], each.property), each.operator, each.value, clock) for each in condition.where
    )


def looked_up(user: dict[str, Any], name: str) -> Any:
    """The value of an attribute; times that are no text of the user's own are datetimes."""
    if name in ("id", "external_id", "email", "opted_out", "created_at"):
        return user[name]
    if name == "customerio.synced_at":
        return user.get("synced_at")
    if name.startswith("customerio."):
        second = user["customerio"].get(name.removeprefix("customerio."))
        return MISSING if second is None else EPOCH + timedelta(seconds=second)
    return path(user["attributes"], name)


def path(document: Any, name: str) -> Any:
    """What a dotted name leads to."""
    for part in name.split("."):
        document = document.get(part, MISSING) if isinstance(document, dict) else MISSING
    return document


def compare(found: Any, operator: str, value: Any, clock: Clock = Clock(EPOCH, UTC_ZONE)) -> bool:  # noqa: B008
    """One comparison."""
    match operator:
        case "is":
            return same(found, value)
        case "is_not":
            return not same(found, value)
        case "in":
            return any(same(found, each) for each in value)
        case "not_in":
            return not any(same(found, each) for each in value)
        case "exists":
            return (found is not MISSING and found is not None) == value
        case "contains":
            if isinstance(found, str) and isinstance(value, str):
                return value in found
            return isinstance(found, list) and any(same(each, value) for each in found)
        case "starts_with":
            return isinstance(found, str) and found.startswith(value)
        case "ends_with":
            return isinstance(found, str) and found.endswith(value)
    if operator in ("within", "not_within", "within_next"):
        return recent(moment(found, clock.zone), operator, value, clock.now)
    if not is_number(found):
        return False
    one, other = exact(found), exact(value)
    return {"gt": one > other, "gte": one >= other, "lt": one < other, "lte": one <= other}[operator]


def recent(at: datetime | None, operator: str, value: timedelta, now: datetime) -> bool:
    """Whether a time is in the last, not in the last, or in the next so and so long."""
    if operator == "within_next":
        return at is not None and now < at <= now + value
    return (at is not None and now - value < at <= now) == (operator == "within")


def moment(found: Any, zone: ZoneInfo) -> datetime | None:
    """The time that a value is, if it is one."""
    if isinstance(found, datetime):
        return found
    if isinstance(found, str):
        return times.parse(found, zone)
    return times.from_number(found) if is_number(found) else None


def same(found: Any, value: Any) -> bool:
    """Equal, and of one type."""
    if is_number(found) and is_number(value):
        return exact(found) == exact(value)
    return type(found) is type(value) and found == value


def is_number(value: Any) -> bool:
    """True and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def exact(value: float) -> Decimal:
    """A number as it is written."""
    return Decimal(repr(value))
