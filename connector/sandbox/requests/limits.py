"""The documented limits, and the words in which a violation is answered. Pure functions.

Limits: Track API reference. v1 texts: docs.customer.io/journeys/invalid-api-requests. The v2 texts are not
documented; "property value cannot be longer than 1000 bytes" has been seen in the wild and the others
follow it. All sizes are bytes of UTF-8; what isn't text is measured as compact JSON.

Stricter readings of what is unverified:
- KB may be 1000 or 1024. Each limit is the largest size that a connector in production is known to send:
  32 * 1024 for an operation, 500,000 for a batch.
- `id`, `email` and `anonymous_id` among the attributes count towards the 300 of a call; control keys
  (`_update`, `_timestamp`, `cio_relationships`) do not.
- An event name is measured as sent, before its blanks are trimmed; the name of a page (its URL) or a screen
  is an event name.
- The value limit also holds for nested values and for `cio_subscription_preferences`.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

PERSON_ID_BYTES = 150
ATTRIBUTE_NAME_BYTES = 150
ATTRIBUTE_VALUE_BYTES = 1000
ATTRIBUTES = 300
EVENT_NAME_BYTES = 100
EVENT_DATA_BYTES = 100_000
OPERATION_BYTES = 32 * 1024
BATCH_BYTES = 500_000
OBJECT_ID_BYTES = 150
OBJECT_BYTES = 100_000
SEGMENT_IDS = 1000

_SURELY_SHORT = ATTRIBUTE_VALUE_BYTES // 4  # characters, of at most four bytes: most values aren't measured


class Problem(msgspec.Struct, frozen=True):
    """One reason for a 400 or for an error in a 207. `v1` is the text where v1 words it differently."""

    field: str
    message: str
    reason: str = "invalid"
    v1: str = ""

    @property
    def v1_text(self) -> str:
        return self.v1 or f"{self.field} {self.message}".strip()


def size(value: object) -> int:
    """Bytes of a value as Customer.io counts them: text as UTF-8, nothing as 0, all else as compact JSON."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode())
    return 0 if value is None else len(orjson.dumps(value))


def person_id(value: object, field: str = "id") -> list[Problem]:
    if not isinstance(value, str):
        return [Problem(field, "must be a string", v1="id attribute must be a string value")]
    if not value.strip():
        return [Problem(field, "cannot be empty", "required", "id attribute cannot be an empty string")]
    if size(value) > PERSON_ID_BYTES:
        text = f"cannot be longer than {PERSON_ID_BYTES} bytes"
        return [Problem(field, f"id {text}", v1=f"id attribute {text}")]
    return []


def email(value: object, field: str) -> list[Problem]:
    """Only the type: whether the text is an email shows when it is applied, after the 200."""
    if value is None or isinstance(value, str):
        return []
    return [Problem(field, "must be a string", v1="email attribute must be a string value")]


def anonymous_id(value: object, field: str) -> list[Problem]:
    if value is None or isinstance(value, str):
        return []
    return [Problem(field, "must be a string", v1="anonymous_id attribute must be a string value")]


def object_id(value: object, field: str) -> list[Problem]:
    """Of an object or its type."""
    if not isinstance(value, str) or not value.strip():
        return [Problem(field, "must be a string that isn't empty", "required")]
    if size(value) > OBJECT_ID_BYTES:
        return [Problem(field, f"cannot be longer than {OBJECT_ID_BYTES} bytes")]
    return []


def attributes(sent: dict[str, Any], field: str = "attributes") -> list[Problem]:
    """Every violation of a person's, an object's or a relationship's; the whole call is refused for any."""
    problems = []
    if len(sent) > ATTRIBUTES:
        text = f"cannot identify more than {ATTRIBUTES} attributes in one request"
        problems.append(Problem(field, text, v1=text))
    for name, value in sent.items():
        if size(name) > ATTRIBUTE_NAME_BYTES:
            text = f"name cannot be longer than {ATTRIBUTE_NAME_BYTES} bytes"
            problems.append(Problem(f"{field}.{name}", f"property {text}", v1=f"attribute {text}"))
        if type(value) is str and len(value) <= _SURELY_SHORT:
            continue
        if size(value) > ATTRIBUTE_VALUE_BYTES:
            text = f"cannot be longer than {ATTRIBUTE_VALUE_BYTES} bytes"
            v1 = f"value for attribute '{name}' {text}"
            problems.append(Problem(f"{field}.{name}", f"property value {text}", v1=v1))
    return problems


def event_name(name: object) -> list[Problem]:
    if name is None or (isinstance(name, str) and not name.strip()):
        return [Problem("name", "name cannot be blank", "required", "name cannot be blank")]
    if not isinstance(name, str):
        return [Problem("name", "name must be a string", v1="name must be a string")]
    if size(name) > EVENT_NAME_BYTES:
        text = f"name cannot be longer than {EVENT_NAME_BYTES} bytes"
        return [Problem("name", text, v1=text)]
    return []


def event_data(data: object, field: str) -> list[Problem]:
    """`field` is where the payload is: `data` in v1, `attributes` in v2."""
    if not isinstance(data, dict):
        text = f"{field} must be a hash"
        return [Problem(field, text, v1=text)]
    if size(data) > EVENT_DATA_BYTES:
        text = f"{field} cannot be longer than {EVENT_DATA_BYTES} bytes"
        return [Problem(field, text, v1=text)]
    return []


def segment_ids(sent: object) -> list[Problem]:
    if not isinstance(sent, list) or not all(isinstance(each, str) for each in sent):
        return [Problem("ids", "must be an array of strings", "required")]
    if not 1 <= len(sent) <= SEGMENT_IDS:
        return [Problem("ids", f"must contain between 1 and {SEGMENT_IDS} ids")]
    return []


def operation(sent: int) -> list[Problem]:
    if sent > OPERATION_BYTES:
        return [Problem("", f"request cannot be larger than {OPERATION_BYTES} bytes")]
    return []


def batch(sent: int) -> list[Problem]:
    if sent > BATCH_BYTES:
        return [Problem("batch", f"batch cannot be larger than {BATCH_BYTES} bytes")]
    return []
