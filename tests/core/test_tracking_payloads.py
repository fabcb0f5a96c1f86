"""Every request of the tracking corpus, read: what the SDKs were told is what their messages say."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

import pytest

from connector.core import tracking_message, tracking_request
from connector.core.tracking_request import Parsed
from connector.records import Message, MessageType
from tests import tracking_corpus
from tests.core.given import NOW
from tests.tracking_corpus import SERVER_KEY, WEB_KEY, Case

CASES = list(tracking_corpus.cases())
# What the last part of a path says of its messages.
SHORT = {
    "i": "identify",
    "t": "track",
    "p": "page",
    "s": "screen",
    "g": "group",
    "a": "alias",
    "b": None,
    "batch": None,
}


def type_of(case: Case) -> MessageType | None:
    last = case.path.partition("?")[0].rpartition("/")[2]
    return cast("MessageType | None", SHORT.get(last, last))


def inflated(case: Case) -> bytes:
    plain = tracking_request.inflated(case.body, case.headers.get("Content-Encoding", ""))
    assert isinstance(plain, bytes)
    return plain


def told(message: Message) -> dict[str, Any]:
    """The message as the corpus writes it."""
    return {
        "type": message.type,
        "message_id": message.source_id,
        "external_id": message.external_id,
        "email": message.email,
        "anonymous_id": message.anonymous_id,
        "previous_id": message.previous_id,
        "traits": message.traits,
        "account": message.account,
        "created_at": message.created_at,
        "name": message.name,
        "properties": message.properties,
        "said_at": message.said_at,
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_an_sdk_was_told_is_what_its_messages_say(case: Case) -> None:
    request = tracking_request.parsed(inflated(case), type_of(case))
    assert isinstance(request, Parsed)
    read = [tracking_message.read(item.source_id, item.body, NOW) for item in tracking_request.items(request, NOW)]

    expected = [
        message | {name: datetime.fromisoformat(message[name]) for name in ("said_at", "created_at") if message[name]}
        for message in case.messages
    ]
    assert [told(message) for message in read if isinstance(message, Message)] == expected
    assert all("flags" not in message.context for message in read if isinstance(message, Message))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_recorded_key_in_the_body_is_found(case: Case) -> None:
    assert tracking_request.write_key(inflated(case)) in (None, SERVER_KEY, WEB_KEY)


def test_each_library_was_told_all_that_it_can_say() -> None:
    said: dict[str, set[str]] = {}
    for case in CASES:
        said.setdefault(case.name.rpartition(".")[0], set()).update(message["type"] for message in case.messages)

    everything = {"identify", "track", "page", "screen", "group", "alias"}
    assert said.pop("analytics-js.rudderstack") == everything - {"screen"}
    assert len(said) == 6
    assert all(types == everything for types in said.values())
