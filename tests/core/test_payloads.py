"""Every kind of webhook is read as the file beside it says; a new kind is two files in `tests/payloads`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from connector.core import naming, normalize
from connector.records import Reading
from tests import corpus

RECEIVED = datetime(2026, 11, 1, tzinfo=UTC)
CASES = {name: (body, expected) for name, body, expected in corpus.cases()}


@pytest.mark.parametrize("name", CASES)
def test_a_webhook_is_read_as_the_corpus_says(name: str) -> None:
    body, expected = CASES[name]
    reading = normalize.read(normalize.glance(body).source_id, body, RECEIVED)

    assert isinstance(reading, Reading)
    assert told(reading, msgspec.json.decode(body)) == {"envelope": {}, **expected}
    assert normalize.glance(body).kind == reading.kind


def told(reading: Reading, body: dict[str, Any]) -> dict[str, Any]:
    """The reading in the corpus's words."""
    data, word = body["data"], reading.word
    received = "no_timestamp" in reading.context.get("flags", [])
    at = "received" if received else reading.occurred_at.isoformat().replace("+00:00", "Z")
    assert received == (reading.occurred_at == RECEIVED)
    assert reading.properties == {key: value for key, value in data.items() if key in reading.properties}
    return {
        "kind": reading.kind,
        "name": reading.name,
        "identifiers": [[each.kind, each.value] for each in reading.identifiers],
        "occurred_at": at,
        "flags": reading.context.get("flags", []),
        "without": [key for key in data if key not in reading.properties],
        "opted_out": word.opted_out if word is not None else None,
        "fact": word.fact if word is not None else None,
        "preferences": dict(word.preferences) or None if word is not None else None,
        "envelope": reading.context.get("envelope", {}),
    }


def test_every_kind_that_has_a_name_is_in_the_corpus() -> None:
    assert naming.NAMES.keys() <= {expected["kind"] for _, expected in CASES.values()}
