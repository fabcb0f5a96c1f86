"""The sandbox's webhooks: what each kind carries, how it is signed, and what came of sending it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import random
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from connector.sandbox import track_api, webhook_bodies, webhook_sender
from connector.sandbox.webhook_bodies import KINDS, Origin, Recipient, Webhook
from connector.sandbox.webhook_sender import Answer, Endpoint

KEY = "signing-key-ü"
ANN = Recipient("42", "a@b.co", "d9c106000001")
NOBODY = Recipient(None, None, "d9c106000002")
ORIGIN = Origin("RPILAgUBcRhIBqSfeiIwdIYJKxTY")
EVENT_ID = "01E4C4CT6YDC7Y5M7FE1GWWPQJ"
TIMESTAMP = 1613063089


@dataclass
class Receiver:
    """An endpoint that keeps what it got, and answers from `statuses` in turn, 200 when those are used up."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    unanswered: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.Response:
        self.received.append((dict(request.headers), await request.read()))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200, headers={"Location": "/hang"})

    async def hang(self, request: web.Request) -> web.Response:
        await self.unanswered.wait()
        return web.Response()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.add_routes([web.post("/hook", receiver.handle), web.route("*", "/hang", receiver.hang)])
    async with track_api.serve(app) as running:
        receiver.url = running.url
        yield receiver
        receiver.unanswered.set()


def build(kind: tuple[str, str], recipient: Recipient = ANN) -> Webhook:
    return webhook_bodies.webhook(kind, recipient, event_id=EVENT_ID, timestamp=TIMESTAMP, origin=ORIGIN)


def test_a_signature_is_hmac_sha256_over_version_timestamp_and_body() -> None:
    # Calculated with: printf 'v0:1613063089:{…}' | openssl dgst -sha256 -hmac 'signing-key-ü'
    body = b'{"event_id":"01E4C4CT6YDC7Y5M7FE1GWWPQJ","metric":"sent"}'
    expected = "5cf554037ff52dffbf9e2604c6f3f1b29a6148bcfb16ec17b9155956c0fce5c0"
    assert webhook_sender.sign(KEY, TIMESTAMP, body) == expected


def test_a_signature_is_over_the_bytes_whatever_they_are() -> None:
    body = b"\x00\xff%d"
    expected = hmac.new(KEY.encode(), b"v0:1:" + body, hashlib.sha256).hexdigest()
    assert webhook_sender.sign(KEY, 1, body) == expected


MESSAGE = {"customer_id", "identifiers", "delivery_id", "campaign_id", "action_id", "journey_id", "trigger_event_id"}
MAIL = {"recipient", "subject"}
FIELDS = {
    "email.drafted": MESSAGE | MAIL,
    "email.attempted": MESSAGE | {"failure_message"},
    "email.sent": MESSAGE | MAIL,
    "email.delivered": MESSAGE | MAIL,
    "email.opened": MESSAGE | MAIL | {"proxied", "prefetched"},
    "email.clicked": MESSAGE | MAIL | {"href", "link_id", "machine"},
    "email.converted": MESSAGE | MAIL,
    "email.unsubscribed": MESSAGE | MAIL,
    "email.bounced": MESSAGE | MAIL | {"failure_message"},
    "email.dropped": MESSAGE | MAIL | {"failure_message"},
    "email.spammed": MESSAGE | MAIL,
    "email.failed": MESSAGE | {"subject", "failure_message"},
    "email.undeliverable": MESSAGE | MAIL | {"failure_message"},
    "customer.subscribed": {"customer_id", "identifiers", "email_address"},
    "customer.unsubscribed": {"customer_id", "identifiers", "email_address"},
}


def test_the_table_of_fields_covers_every_kind() -> None:
    assert {".".join(kind) for kind in KINDS} == FIELDS.keys()


@pytest.mark.parametrize("kind", KINDS, ids=".".join)
def test_a_webhook_carries_the_documented_fields(kind: tuple[str, str]) -> None:
    sent = json.loads(build(kind).body)
    assert list(sent) == ["event_id", "object_type", "metric", "timestamp", "data"]
    assert (sent["object_type"], sent["metric"]) == kind
    assert (sent["event_id"], sent["timestamp"]) == (EVENT_ID, TIMESTAMP)
    data: dict[str, Any] = sent["data"]
    assert data.keys() == FIELDS[".".join(kind)]
    assert data["customer_id"] == "42"
    assert data["identifiers"] == {"id": "42", "email": "a@b.co", "cio_id": "d9c106000001"}
    assert data.get("recipient", "a@b.co") == data.get("email_address", "a@b.co") == "a@b.co"


def test_the_bodies_of_two_kinds_are_written_out() -> None:
    assert build(("customer", "subscribed")).body == (
        b'{"event_id":"01E4C4CT6YDC7Y5M7FE1GWWPQJ","object_type":"customer","metric":"subscribed",'
        b'"timestamp":1613063089,"data":{"customer_id":"42","identifiers":{"id":"42","email":"a@b.co",'
        b'"cio_id":"d9c106000001"},"email_address":"a@b.co"}}'
    )
    clicked = json.loads(build(("email", "clicked")).body)["data"]
    assert clicked == {
        "customer_id": "42",
        "identifiers": {"id": "42", "email": "a@b.co", "cio_id": "d9c106000001"},
        "delivery_id": "RPILAgUBcRhIBqSfeiIwdIYJKxTY",
        "campaign_id": 7,
        "action_id": 42,
        "journey_id": "01HX0000000000000000000000",
        "trigger_event_id": None,
        "recipient": "a@b.co",
        "subject": "Thanks for signing up",
        "href": "https://example.com/welcome",
        "link_id": 1,
        "machine": False,
    }


def test_a_person_without_identifiers_has_a_blank_customer_id_and_nulls() -> None:
    data = build(("customer", "unsubscribed"), NOBODY).data
    assert data["customer_id"] == ""
    assert data["email_address"] is None
    assert data["identifiers"] == {"id": None, "email": None, "cio_id": "d9c106000002"}


def test_a_stream_is_the_same_for_the_same_seed_and_no_event_id_repeats() -> None:
    def events(seed: int) -> list[Webhook]:
        rng = random.Random(seed)
        return list(webhook_bodies.stream([ANN, NOBODY], list(KINDS), rng, timestamp=TIMESTAMP))

    first = events(1)
    assert first == events(1)
    assert first != events(2)
    assert len({event.event_id for event in first}) == len(first) == 2 * len(KINDS)
    assert [event.timestamp for event in first[:3]] == [TIMESTAMP, TIMESTAMP + 1, TIMESTAMP + 2]
    assert len({event.data["delivery_id"] for event in first if "delivery_id" in event.data}) == 2


def test_a_ulid_is_26_letters_that_sort_by_time() -> None:
    rng = random.Random(0)
    # python-ulid gives the same time part for this moment.
    assert re.fullmatch(r"01EY90TTV8[0-9A-HJKMNP-TV-Z]{16}", webhook_bodies.ulid(rng, TIMESTAMP))
    assert webhook_bodies.ulid(rng, TIMESTAMP) < webhook_bodies.ulid(rng, TIMESTAMP + 1)


async def test_webhooks_arrive_signed_and_in_order(receiver: Receiver) -> None:
    webhooks = [build(kind) for kind in KINDS]
    endpoint = Endpoint(receiver.url + "/hook", KEY)
    answers = await webhook_sender.send(endpoint, webhooks, now=lambda: 1700000000.9)
    assert answers == [Answer(EVENT_ID, 200)] * len(webhooks)
    assert [body for _, body in receiver.received] == [webhook.body for webhook in webhooks]
    for headers, body in receiver.received:
        assert headers["Content-Type"] == "application/json"
        assert headers["X-CIO-Timestamp"] == "1700000000"
        expected = hmac.new(KEY.encode(), b"v0:1700000000:" + body, hashlib.sha256).hexdigest()
        assert headers["X-CIO-Signature"] == expected


async def test_each_answer_is_told_and_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.statuses = [200, 401, 302, 503, 204]
    endpoint = Endpoint(receiver.url + "/hook", KEY)
    answers = await webhook_sender.send(endpoint, [build(("email", "sent"))] * 5)
    assert [answer.status for answer in answers] == [200, 401, 302, 503, 204]
    assert [answer.accepted for answer in answers] == [True, False, False, False, True]


async def test_no_answer_in_time_is_a_timeout(receiver: Receiver) -> None:
    endpoint = Endpoint(receiver.url + "/hang", KEY)
    answers = await webhook_sender.send(endpoint, [build(("email", "sent"))], timeout_seconds=0.05)
    assert answers == [Answer(EVENT_ID, None, "timeout")]
    assert not answers[0].accepted


async def test_the_vendor_waits_four_seconds() -> None:
    assert webhook_sender.TIMEOUT_SECONDS == 4.0


async def test_a_receiver_that_is_down_is_told_in_words() -> None:
    async with track_api.serve(web.Application()) as running:
        endpoint = Endpoint(running.url, KEY)
    [answer] = await webhook_sender.send(endpoint, [build(("email", "sent"))])
    assert answer.status is None
    assert "Cannot connect" in answer.error


async def test_one_attempt_is_made_at_the_time_given(receiver: Receiver) -> None:
    endpoint = Endpoint(receiver.url + "/hook", KEY)
    async with aiohttp.ClientSession() as session:
        first = await webhook_sender.attempt(session, endpoint, build(("email", "sent")), 1)
        await webhook_sender.attempt(session, endpoint, build(("email", "sent")), 2)
    assert first == Answer(EVENT_ID, 200)
    [(one, body), (two, same_body)] = receiver.received
    assert body == same_body
    assert one["X-CIO-Signature"] != two["X-CIO-Signature"]
