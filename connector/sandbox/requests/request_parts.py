"""The parts of a body that v1 and v2 share: identifiers, devices, relationships, the two sides of a merge. Pure.

Each function takes what was sent and returns what it means, or the list of what is wrong with it. What
differs between v1 and v2 (a device's `id` or `token`, the shape around relationships) is an argument or the
caller's part.

Stricter readings of what is unverified:
- Identifiers are strings that aren't empty, exactly one of them; a cio_id is bare (`cio_` belongs to v1
  paths).
- A device's `push_enabled` must be the text "true" or "false", `_last_status` one of the four documented
  words; a `last_used` that is no number is the time of receipt.
- Of the keys of a device and of a relationship only the documented ones mean something.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from connector.sandbox import operations
from connector.sandbox.operations import AddDevice, Identifier, Kind, Merge, ObjectName, Relate, Relationship
from connector.sandbox.requests import limits
from connector.sandbox.requests.limits import Problem

RELATED_KINDS: tuple[Kind, ...] = ("id", "email", "phone", "cio_id")

_MERGED_KINDS: tuple[Kind, ...] = ("id", "email", "cio_id")
_PLATFORMS = ("ios", "android")
_DOCUMENTED_VALUES = {
    "push_enabled": ("true", "false"),
    "_last_status": ("", "bounced", "sent", "suppressed"),
}


def identifier(named: object, kinds: Sequence[Kind], field: str = "identifiers") -> Identifier | list[Problem]:
    """Exactly one of `kinds`, whose value is a string."""
    if not isinstance(named, dict) or not named:
        return [Problem(field, f"{field} are required", "required", f"{field} cannot be blank")]
    if len(named) > 1:
        return [Problem(field, f"exactly one identifier is allowed, got {', '.join(sorted(named))}")]
    for kind in kinds:
        if kind in named:
            value, where = named[kind], f"{field}.{kind}"
            if kind == "id":
                return limits.person_id(value, where) or Identifier(kind, value)
            if not isinstance(value, str) or not value.strip():
                return [Problem(where, f"{kind} must be a string that isn't empty")]
            return Identifier(kind, value)
    return [Problem(field, f"unknown identifier {next(iter(named))!r}")]


def object_name(named: object, field: str = "identifiers") -> ObjectName | list[Problem]:
    """`object_type_id` and `object_id`, or `cio_object_id` alone."""
    if not isinstance(named, dict) or not named:
        return [Problem(field, f"{field} are required", "required", f"{field} cannot be blank")]
    if named.keys() == {"cio_object_id"}:
        value = named["cio_object_id"]
        return limits.object_id(value, f"{field}.cio_object_id") or ObjectName("", value)
    if named.keys() == {"object_type_id", "object_id"}:
        problems = limits.object_id(named["object_type_id"], f"{field}.object_type_id")
        problems += limits.object_id(named["object_id"], f"{field}.object_id")
        return problems or ObjectName(named["object_type_id"], named["object_id"])
    return [Problem(field, "must be object_type_id and object_id, or cio_object_id")]


def device_token(sent: object, key: str) -> str | list[Problem]:
    """`key` is what the token is called: `id` in v1, `token` in v2."""
    if not isinstance(sent, dict):
        return [Problem("device", "must be an object", "required")]
    token = sent.get(key)
    if not isinstance(token, str) or not token.strip():
        return [Problem(f"device.{key}", "must be a string that isn't empty", "required")]
    return token


def device(who: Identifier, sent: object, key: str) -> AddDevice | list[Problem]:
    token = device_token(sent, key)
    if isinstance(token, list) or not isinstance(sent, dict):
        return problems_of(token)
    problems = []
    if sent.get("platform") not in _PLATFORMS:
        problems.append(Problem("device.platform", f"must be one of {', '.join(_PLATFORMS)}", "required"))
    attributes = sent.get("attributes")
    attributes = {} if attributes is None else attributes
    if isinstance(attributes, dict):
        problems += limits.attributes(attributes, "device.attributes")
        problems += _device_values(attributes)
    else:
        problems.append(Problem("device.attributes", "must be an object"))
    last_used = operations.unix_seconds(sent.get("last_used"))
    return problems or AddDevice(who, token, sent["platform"], last_used, attributes)


def merge(sent: dict[str, Any]) -> Merge | list[Problem]:
    primary = identifier(sent.get("primary"), _MERGED_KINDS, "primary")
    secondary = identifier(sent.get("secondary"), _MERGED_KINDS, "secondary")
    if isinstance(primary, list) or isinstance(secondary, list):
        return [*problems_of(primary), *problems_of(secondary)]
    return Merge(primary, secondary)


def to_objects(who: Identifier, sent: object, *, adds: bool = True) -> Relate | list[Problem]:
    """The relationships of a person; `sent` lists objects."""
    return _relate(sent, lambda named, field: (who, object_name(named, field)), adds=adds)


def to_people(
    name: ObjectName, sent: object, *, adds: bool = True, kinds: Sequence[Kind] = RELATED_KINDS
) -> Relate | list[Problem]:
    """The relationships of an object; `sent` lists people, by one of `kinds`."""
    return _relate(sent, lambda named, field: (identifier(named, kinds, field), name), adds=adds)


def problems_of(read: object) -> list[Problem]:
    """The problems, where reading gave some."""
    return list(read) if isinstance(read, list) else []


_Ends = tuple[Identifier | list[Problem], ObjectName | list[Problem]]


def _relate(sent: object, ends: Callable[[object, str], _Ends], *, adds: bool) -> Relate | list[Problem]:
    """`ends` reads one item's `identifiers` and gives both ends of the relationship."""
    if not isinstance(sent, list):
        return [Problem("cio_relationships", "must be an array of relationships", "required")]
    result, problems = Relate([], adds), []
    for index, item in enumerate(sent):
        field = f"cio_relationships[{index}]"
        if not isinstance(item, dict):
            problems.append(Problem(field, "must be an object"))
            continue
        who, name = ends(item.get("identifiers"), f"{field}.identifiers")
        attributes = item.get("relationship_attributes")
        attributes = {} if attributes is None else attributes
        if isinstance(attributes, dict):
            wrong = limits.attributes(attributes, f"{field}.relationship_attributes")
        else:
            wrong = [Problem(f"{field}.relationship_attributes", "must be an object")]
        problems += problems_of(who) + problems_of(name) + wrong
        if isinstance(who, Identifier) and isinstance(name, ObjectName) and not wrong:
            result.relationships.append(Relationship(who, name, attributes))
    return problems or result


def _device_values(attributes: dict[str, Any]) -> list[Problem]:
    return [
        Problem(f"device.attributes.{name}", f"must be one of {', '.join(map(repr, allowed))}")
        for name, allowed in _DOCUMENTED_VALUES.items()
        if name in attributes and attributes[name] not in allowed
    ]
