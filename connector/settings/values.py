"""The kinds of values that settings hold: each a type that pydantic checks, refusing in a plain sentence."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from connector.settings import names
from connector.settings.faults import Problem, did_you_mean, kind, quoted, refused, unless

DURATION = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)")
_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LONGEST = timedelta(days=3650)
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#@*,]+")
_KIND = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+")
_KIND_PATTERN = re.compile(r"[a-z0-9_*?]+\.[a-z0-9_*?]+")
LONGEST_EVENT_NAME = 200
# Conditions on these ask for columns of the users' table.
_COLUMNS = frozenset({"id", "external_id", "email", "created_at", "opted_out"})


def duration(value: object) -> timedelta:
    """A duration from what a file holds; raises pydantic's error when it is none."""
    if isinstance(value, timedelta):
        return value
    match = DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        told = "another text" if isinstance(value, str) and value else kind(value)
        message = f'must be a duration such as "500ms", "1s", "5m", "24h" or "7d", is {told}'
        raise refused(Problem((), message))
    amount = int(match[1])
    # Compared as whole days first: timedelta overflows on what twelve digits can say.
    fits = amount <= _LONGEST / timedelta(**{_UNITS[match[2]]: 1})
    unless(fits and amount > 0, f"must be more than 0 and at most {_LONGEST.days} days")
    return timedelta(**{_UNITS[match[2]]: amount})


def duration_text(value: timedelta) -> str:
    """As a file holds it, in the largest unit that says it in a whole number."""
    whole = {unit: timedelta(**{name: 1}) for unit, name in _UNITS.items()}
    unit = next((unit for unit in reversed(whole) if not value % whole[unit]), "ms")
    return f"{value // whole[unit]}{unit}"


def _duration_or_forever(value: object) -> timedelta | None:
    if value is None or value == "forever":
        return None
    fine = isinstance(value, timedelta) or (isinstance(value, str) and DURATION.fullmatch(value) is not None)
    unless(fine, 'must be "forever" or a duration such as "400d"')
    return duration(value)


def _limit(value: object) -> object:
    unless(not isinstance(value, str) or value == "unlimited", 'must be a whole number or "unlimited"')
    return None if value == "unlimited" else value


def _number(value: object) -> object:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _attribute_or_none(name: str) -> str:
    return name and _own_attribute(name)


def _one_or_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _host(value: str) -> str:
    unless(bool(value) and not re.search(r"[\s/]", value), "must be a host name or an IP address")
    return value


def _web_url(value: str) -> str:
    if not value:
        return value
    try:
        parts = urlsplit(value)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    unless(fine and not re.search(r"\s", value), 'must be a URL such as "https://connector.example.com"')
    unless(not parts.query and not parts.fragment and "?" not in value, "must not have a ? or # part")
    unless(parts.username is None and parts.password is None, "must not hold a user name or a password")
    return value.rstrip("/")


def _store_url(secret: SecretStr) -> SecretStr:
    """Checks without ever quoting it: a URL may hold a password."""
    scheme, _, rest = secret.get_secret_value().partition("://")
    if scheme == "sqlite":
        named = rest.startswith("/") and not rest.startswith(("/:memory:", "/file:")) and rest[-1] != "/"
        unless(named, 'must name a file, as in "sqlite:///connector.db"')
        unless(not re.search(r"[?\x00-\x1f]", rest), "must be a path without ?options")
        return secret
    unless(not scheme.startswith(("sqlite+", "postgresql+", "postgres+")), "must leave out the +driver")
    example = '"sqlite:///connector.db" or "postgresql://user@host/database"'
    try:
        parts = urlsplit(secret.get_secret_value())
        fine = parts.scheme in ("postgresql", "postgres") and "://" in secret.get_secret_value()
        fine = fine and parts.port != 0
    except ValueError:
        fine = False
    unless(fine, f"must be a URL such as {example}")
    # Where the password ends, readers of such URLs disagree; it must be known before a URL is masked.
    address = re.split(r"[/?#]", rest, maxsplit=1)[0]
    unless(
        rest.count("@") == address.count("@") <= 1,
        "must have @, /, ? and # in its user, password and options percent-encoded: %40, %2F, %3F, %23",
    )
    return secret


def _site_id(value: str) -> str:
    unless(not value.startswith(("env:", "file:")), "is no secret: write the site id itself")
    unless(not re.search(r"[\s:]", value), "must not hold a space or a colon")
    return value


def _zone(value: str) -> str:
    if value != "UTC":
        try:
            zoneinfo.ZoneInfo(value)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            example = did_you_mean(value, zoneinfo.available_timezones()) or ', such as "Europe/Paris"'
            raise refused(Problem((), f"must be the name of a time zone{example}")) from None
    return value


def _attribute(name: str) -> str:
    fault = names.path_fault(name)
    unless(fault is None, fault or "")
    unless(not name.startswith("customerio."), "what Customer.io reported is never sent back to it")
    return name


def _own_attribute(name: str) -> str:
    fault = names.path_fault(name)
    unless(fault is None, fault or "")
    own = name not in _COLUMNS and not name.startswith("customerio.")
    unless(own, "must be an attribute of your data; what the connector itself knows of a user is none")
    return name


def _written_keys(keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    """Without the empty ones: an empty key means off, and must never verify anything."""
    return tuple(key for key in keys if key.get_secret_value())


def _kind_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in patterns:
        fine = _KIND_PATTERN.fullmatch(pattern) is not None
        unless(fine, f'must be kinds such as "email.drafted" or "*.drafted"; {quoted(pattern)} is none')
    return patterns


def _event_patterns(given: tuple[str, ...]) -> tuple[str, ...]:
    return _each_once(given, 'a name such as "Order Completed", a pattern such as "Order *", "page" or "screen"')


def _page_patterns(given: tuple[str, ...]) -> tuple[str, ...]:
    return _each_once(given, 'the URL of a page, or a pattern such as "https://shop.example.com/pricing*"')


def _each_once(given: tuple[str, ...], what: str) -> tuple[str, ...]:
    """Without the blanks around them, which Customer.io takes off the names of events, too."""
    stripped = tuple(each.strip() for each in given)
    problems = []
    for index, each in enumerate(stripped):
        if not each or not each.isprintable():
            problems.append(Problem((index,), f"must be {what}, without line breaks"))
        elif each in stripped[:index]:
            problems.append(Problem((index,), f"{quoted(each)} is listed twice"))
    if problems:
        raise refused(*problems)
    return stripped


def _event_names(names: Mapping[str, str]) -> Mapping[str, str]:
    problems = []
    for kind_, name in names.items():
        if not _KIND.fullmatch(kind_):
            problems.append(Problem((kind_,), 'is no kind: object type, dot, metric, as in "email.clicked"'))
        elif not (name.strip() and name.isprintable() and len(name) <= LONGEST_EVENT_NAME):
            message = f"must be a name of 1 to {LONGEST_EVENT_NAME} characters, without line breaks"
            problems.append(Problem((kind_,), message))
    if problems:
        raise refused(*problems)
    return names


def _origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for origin in origins:
        fine = origin == "*" or _ORIGIN.fullmatch(origin) is not None
        unless(fine, f'must be "*" or origins such as "https://www.example.com"; {quoted(origin)} is none')
    return tuple(origin.lower() for origin in origins)


def as_tuple(value: object) -> object:
    """A list as a tuple: TOML has lists, a frozen record holds tuples."""
    return tuple(value) if isinstance(value, list) else value


Duration: TypeAlias = Annotated[timedelta, BeforeValidator(duration)]
DurationOrForever: TypeAlias = Annotated[timedelta | None, BeforeValidator(_duration_or_forever)]
Limit: TypeAlias = Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(_limit)]
Share: TypeAlias = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1, allow_inf_nan=False)]
Host: TypeAlias = Annotated[str, AfterValidator(_host)]
Port: TypeAlias = Annotated[int, Field(ge=0, le=65535)]
WebUrl: TypeAlias = Annotated[str, AfterValidator(_web_url)]
StoreUrl: TypeAlias = Annotated[SecretStr, AfterValidator(_store_url)]
SiteId: TypeAlias = Annotated[str, AfterValidator(_site_id)]
ZoneName: TypeAlias = Annotated[str, AfterValidator(_zone)]
AttributePath: TypeAlias = Annotated[str, AfterValidator(_attribute)]
AttributePathOrNone: TypeAlias = Annotated[str, AfterValidator(_attribute_or_none)]
Keys: TypeAlias = Annotated[tuple[SecretStr, ...], BeforeValidator(as_tuple), AfterValidator(_written_keys)]
OwnAttributes: TypeAlias = Annotated[
    tuple[Annotated[str, AfterValidator(_own_attribute)], ...], BeforeValidator(as_tuple)
]
OneOrMore: TypeAlias = Annotated[
    tuple[AttributePath, ...], Field(min_length=1), BeforeValidator(as_tuple), BeforeValidator(_one_or_list)
]
KindPatterns: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(as_tuple), AfterValidator(_kind_patterns)]
Origins: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(as_tuple), AfterValidator(_origins)]
EventPatterns: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(as_tuple), AfterValidator(_event_patterns)]
PagePatterns: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(as_tuple), AfterValidator(_page_patterns)]
EventNames: TypeAlias = Annotated[Mapping[str, str], AfterValidator(_event_names)]
Names: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
