"""The JSON Schema of the settings file as it is written: durations are text, secrets are references, what may be said
in short is taken either way. For editors; what must agree with what, only the reading itself can tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from connector.settings import Settings, comparisons, difference, values
from connector.settings.condition_tables import MOST_TIMES
from connector.settings.conditions import FACTS, SYNCED
from connector.settings.faults import Path
from connector.settings.secret_places import LITERAL_TOO, PLACES

_DIALECT = "http://json-schema.org/draft-07/schema#"
_REFERENCE = "^(env:.+|file:.+)?$"
_SCALAR = {"type": ["string", "number", "boolean"]}
_DURATION = {"type": "string", "pattern": f"^(?=.*[1-9]){values.DURATION.pattern}$"}
_TEXT = {"type": "string", "minLength": 1}
_SCALARS = {"type": "array", "items": _SCALAR, "minItems": 1}
_NUMBER = {"type": "number"}
_OPERANDS: dict[str, dict[str, Any]] = {
    "is": _SCALAR,
    "is_not": _SCALAR,
    "in": _SCALARS,
    "not_in": _SCALARS,
    "contains": _SCALAR,
    "starts_with": _TEXT,
    "ends_with": _TEXT,
    "exists": {"type": "boolean"},
    "gt": _NUMBER,
    "gte": _NUMBER,
    "lt": _NUMBER,
    "lte": _NUMBER,
    "within": _DURATION,
    "not_within": _DURATION,
    "within_next": _DURATION,
}
_HOST = {"pattern": r"^[^\s/]+$"}
_WEB_URL = {"pattern": r"^(https?://[^\s?#@]+)?$"}
# What the model leaves to its validators, as far as a pattern can say it.
_STRICTER: dict[Path, dict[str, Any]] = {
    ("server", "host"): _HOST,
    ("server", "public_url"): _WEB_URL,
    ("admin", "host"): _HOST,
    ("store", "url"): {"pattern": "^(env:.+|file:.+|sqlite:///.+|postgres(ql)?://.+)$"},
    ("customerio", "site_id"): {"pattern": r"^(?!env:|file:)[^\s:]*$"},
    ("customerio", "track_url"): _WEB_URL,
}
_TABLE = re.compile(r"\[([\w.]+)\]")
_KEY = re.compile(r"(\w+) = ")


def schema(comments: Mapping[Path, str]) -> dict[str, Any]:
    """The schema; `comments` are what is said of tables and keys, see `comments_of`."""
    made = Settings.model_json_schema()
    defaults = dict(difference.written(Settings()))
    return {
        "$schema": _DIALECT,
        "title": "Settings of the connector",
        **_table(Settings, (), made, defaults, comments),
        "definitions": {
            "condition": {"anyOf": _conditions({})},
            "segment": {"anyOf": _conditions({"internal": {"type": "boolean"}})},
            "property": _compared("property", {}, {}),
        },
    }


def comments_of(example: str) -> dict[Path, str]:
    """By table or key: the comment above it in an example of the file; of a table without keys, the one below its
    header. A key without one shares that of the key above it."""
    found: dict[Path, str] = {}
    said: list[str] = []
    table: Path = ()
    last = ""
    for line in [*example.splitlines(), ""]:
        if line.startswith("#") and not line.startswith(("# --", "#:")):
            said.append(line.removeprefix("#").removeprefix(" "))
            continue
        text, said = "\n".join(said), []
        if header := _TABLE.fullmatch(line):
            table = tuple(header[1].split("."))
            if text:
                found[table] = text
        elif key := _KEY.match(line):
            last = text or last
            found[*table, key[1]] = last
        elif text and table:
            found.setdefault(table, text)
    return found


def _table(
    model: type[BaseModel],
    where: Path,
    made: Mapping[str, Any],
    defaults: Mapping[Path, Any],
    comments: Mapping[Path, str],
) -> dict[str, Any]:
    told = made if model is Settings else made["$defs"][model.__name__]
    properties = {}
    for name, field in model.model_fields.items():
        here = (*where, name)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            key = _table(inner, here, made, defaults, comments)
        else:
            key = _key(here, told["properties"][name], made) | _STRICTER.get(here, {})
            if defaults.get(here) is not None and not difference.is_secret(defaults[here]):
                key["default"] = defaults[here]
        properties[name] = ({"description": comments[here]} if here in comments else {}) | key
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _key(where: Path, told: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, Any]:
    if where == ("segments",):
        return {"type": "object", "additionalProperties": {"$ref": "#/definitions/segment"}}
    if where == ("people", "attributes"):
        return {"type": "array", "items": {"anyOf": [_TEXT, _pick(made)]}}
    for place in PLACES:
        if place[:2] == where:
            secret = {"type": "string"} if place in LITERAL_TOO else {"type": "string", "pattern": _REFERENCE}
            return secret if len(place) == 2 else {"type": "array", "items": secret}
    key = _cleaned(told)
    if where == ("people", "customer_id"):
        return {"anyOf": [key["items"], key]}
    if where[0] == "guard" and key["type"] == "integer":
        return {"anyOf": [key, {"const": "unlimited"}]}
    if where == ("store", "events"):
        return {"anyOf": [key, {"const": "forever"}]}
    return key


def _pick(made: Mapping[str, Any]) -> dict[str, Any]:
    told = made["$defs"]["Pick"]
    properties = {name: _cleaned(key) for name, key in told["properties"].items()}
    return {"type": "object", "properties": properties, "required": ["name"], "additionalProperties": False}


def _cleaned(told: Mapping[str, Any]) -> dict[str, Any]:
    """Without what only the program has: there is no null in a file, and a duration is not ISO's."""
    if "anyOf" in told:
        return _cleaned(next(each for each in told["anyOf"] if each != {"type": "null"}))
    if told.get("format") == "duration":
        return dict(_DURATION)
    renamed = {"ge": "minimum", "le": "maximum"}
    key = {renamed.get(name, name): value for name, value in told.items() if name not in ("title", "default")}
    if "items" in key:
        key["items"] = _cleaned(key["items"])
        if key["items"]["type"] == "string":
            key["items"]["minLength"] = 1
    return key


def _conditions(more: dict[str, Any]) -> list[dict[str, Any]]:
    """Every kind of condition; a segment's own table takes `more` keys."""
    several = {"type": "array", "items": {"$ref": "#/definitions/condition"}, "minItems": 1}
    attribute = {"anyOf": [_TEXT, {"enum": [f"customerio.{fact}" for fact in (SYNCED, *FACTS)]}]}
    counted = {"type": "integer", "maximum": MOST_TIMES}
    event = {
        "event": {"type": "string", "minLength": 1, "maxLength": values.LONGEST_EVENT_NAME},
        "at_least": {**counted, "minimum": 1},
        "at_most": {**counted, "minimum": 0},
        "within": _DURATION,
        "where": {"type": "array", "items": {"$ref": "#/definitions/property"}, "minItems": 1},
    }
    return [
        *(_closed({name: several}, [name], more) for name in ("all", "any", "none")),
        _compared("attribute", attribute, more),
        {**_closed(event, ["event"], more), "not": {"required": ["at_least", "at_most"]}},
        _closed({"segment": {"type": "string"}}, ["segment"], more),
        _closed({"everyone": {"const": True}}, ["everyone"], more),
    ]


def _compared(subject: str, name: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """A table that compares with exactly one operator."""
    operators = {operator: _OPERANDS[operator] for operator in comparisons.OPERATORS}
    table = _closed({subject: name or _TEXT, **operators}, [subject], more)
    return {**table, "oneOf": [{"required": [operator]} for operator in comparisons.OPERATORS]}


def _closed(properties: dict[str, Any], required: list[str], more: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties | more, "required": required, "additionalProperties": False}
