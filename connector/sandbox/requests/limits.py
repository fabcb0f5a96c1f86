"""The documented limits, and the words in which a violation is answered. Pure functions.

Limits: Track API reference. v1 texts: docs.customer.io/journeys/invalid-api-requests. The v2 texts are not
documented; "property value cannot be longer than 1000 bytes" has been seen in the wild and the others
follow it. All sizes are bytes of UTF-8; what isn't text is measured as compact JSON.

Stricter readings of what is unverified:
- KB may be 1000 or 1024; it is 1000. A single operation is "under" 32 KB and a batch "under" 500 KB, so that much is
  too much; each item of a batch may have 32 KB. (Others send up to 32 * 1024 and 500,000 in production.)
- `id`, `email`, `phone` and `anonymous_id` among the attributes count towards the 300 of a call; control keys
  (`_update`, `_timestamp`, `cio_relationships`) do not.
- An event name is measured as sent, before its blanks are trimmed; the name of a page (its URL) or a screen
  is an event name.
- The value limit also holds for nested values and for `cio_subscription_preferences`.
- A segment's id is an integer of 64 bits.
"""

from __future__ import annotations

from typing import Any

import msgspec

from connector.sandbox.rules import capacity
from connector.sandbox.rules.capacity import ATTRIBUTE_VALUE_BYTES, ATTRIBUTES

PERSON_ID_BYTES = 150
ATTRIBUTE_NAME_BYTES = 150
EVENT_NAME_BYTES = 100
EVENT_DATA_BYTES = 100_000
ITEM_BYTES = 32_000
ENTITY_BYTES = ITEM_BYTES - 1
BATCH_BYTES = 500_000 - 1
OBJECT_ID_BYTES = 150
SEGMENT_IDS = 1000
LARGEST_SEGMENT_ID = 2**63 - 1

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


def person_id(value: object, field: str = "id") -> list[Problem]:
    if not isinstance(value, str):
        return [Problem(field, "must be a string", v1="id attribute must be a string value")]
    if not value.strip():
        return [Problem(field, "cannot be empty", "required", "id attribute cannot be an empty string")]
    if capacity.size(value) > PERSON_ID_BYTES:
        text = f"cannot be longer than {PERSON_ID_BYTES} bytes"
        return [Problem(field, f"id {text}", v1=f"id attribute {text}")]
    return []


def texts(sent: dict[str, Any], *names: str, field: str = "") -> list[Problem]:
    """Identifiers that are text where they are there. Only the type: whether the text is an email or a phone shows when
    it is applied, after the 200. `field` is where they are, with a dot at its end."""
    return [
        Problem(f"{field}{name}", "must be a string", v1=f"{name} attribute must be a string value")
        for name in names
        if not isinstance(sent.get(name, ""), str | None)
    ]


def object_id(value: object, field: str) -> list[Problem]:
    """Of an object or its type."""
    if not isinstance(value, str) or not value.strip():
        return [Problem(field, "must be a string that isn't empty", "required")]
    if capacity.size(value) > OBJECT_ID_BYTES:
        return [Problem(field, f"cannot be longer than {OBJECT_ID_BYTES} bytes")]
    return []


def attributes(sent: dict[str, Any], field: str = "attributes") -> list[Problem]:
    """Every violation of a person's, an object's or a relationship's; the whole call is refused for any."""
    problems = []
    if len(sent) > ATTRIBUTES:
        text = f"cannot identify more than {ATTRIBUTES} attributes in one request"
        problems.append(Problem(field, text, v1=text))
    for name, value in sent.items():
        if capacity.size(name) > ATTRIBUTE_NAME_BYTES:
            text = f"name cannot be longer than {ATTRIBUTE_NAME_BYTES} bytes"
            problems.append(Problem(f"{field}.{name}", f"property {text}", v1=f"attribute {text}"))
        if type(value) is str and len(value) <= _SURELY_SHORT:
            continue
        if capacity.size(value) > ATTRIBUTE_VALUE_BYTES:
            text = f"cannot be longer than {ATTRIBUTE_VALUE_BYTES} bytes"
            v1 = f"value for attribute '{name}' {text}"
            problems.append(Problem(f"{field}.{name}", f"property value {text}", v1=v1))
    return problems


def event_name(name: object) -> list[Problem]:
    if name is None or (isinstance(name, str) and not name.strip()):
        return [Problem("name", "name cannot be blank", "required", "name cannot be blank")]
    if not isinstance(name, str):
        return [Problem("name", "name must be a string", v1="name must be a string")]
    if capacity.size(name) > EVENT_NAME_BYTES:
        text = f"name cannot be longer than {EVENT_NAME_BYTES} bytes"
        return [Problem("name", text, v1=text)]
    return []


def event_data(data: object, field: str) -> list[Problem]:
    """`field` is where the payload is: `data` in v1, `attributes` in v2."""
    if not isinstance(data, dict):
        text = f"{field} must be a hash"
        return [Problem(field, text, v1=text)]
    if capacity.size(data) > EVENT_DATA_BYTES:
        text = f"{field} cannot be longer than {EVENT_DATA_BYTES} bytes"
        return [Problem(field, text, v1=text)]
    return []


def segment_ids(sent: object) -> list[Problem]:
    if not isinstance(sent, list) or not all(isinstance(each, str) for each in sent):
        return [Problem("ids", "must be an array of strings", "required")]
    if not 1 <= len(sent) <= SEGMENT_IDS:
        return [Problem("ids", f"must contain between 1 and {SEGMENT_IDS} ids")]
    return []


def segment_id(sent: str) -> list[Problem]:
    """As in the path, decoded."""
    # The length comes first: Python refuses to read thousands of digits.
    if sent.isascii() and sent.isdigit() and len(sent) < 20 and int(sent) <= LARGEST_SEGMENT_ID:
        return []
    return [Problem("segment_id", "must be an integer")]


def entity(sent: int) -> list[Problem]:
    return _request(sent, ENTITY_BYTES)


def item(sent: int) -> list[Problem]:
    """Of a batch."""
    return _request(sent, ITEM_BYTES)


def batch(sent: int) -> list[Problem]:
    if sent > BATCH_BYTES:
        return [Problem("batch", f"batch cannot be larger than {BATCH_BYTES} bytes")]
    return []


def _request(sent: int, most: int) -> list[Problem]:
    return [Problem("", f"request cannot be larger than {most} bytes")] if sent > most else []
