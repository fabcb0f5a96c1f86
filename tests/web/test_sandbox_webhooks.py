"""Signing and sending one webhook: what the vendor's documents say of a request, byte by byte."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web

from connector.sandbox import track_api
from connector.sandbox.webhooks import webhook_bodies, webhook_sender
from connector.sandbox.webhooks.webhook_bodies import Campaign, Recipient, Webhook
from connector.sandbox.webhooks.webhook_kinds import KINDS, Kind
from connector.sandbox.webhooks.webhook_sender import Answer, Endpoint
from tests.receiver import KEY, Receiver, receiving

ANN = Recipient("42", "a@b.co", "d9c106000001")
EVENT_ID = "01E4C4CT6YDC7Y5M7FE1GWWPQJ"
TIMESTAMP = 1613063089


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


def build(kind: Kind) -> Webhook:
    origin = Campaign("RPILAgUBcRhIBqSfeiIwdIYJKxTY")
    return webhook_bodies.webhook(kind, ANN, event_id=EVENT_ID, timestamp=TIMESTAMP, origin=origin)


def test_a_signature_is_hmac_sha256_over_version_timestamp_and_body() -> None:
    # Calculated with: printf 'v0:1613063089:{…}' | openssl dgst -sha256 -hmac 'signing-key-ü'
    body = b'{"event_id":"01E4C4CT6YDC7Y5M7FE1GWWPQJ","metric":"sent"}'
    expected = "5cf554037ff52dffbf9e2604c6f3f1b29a6148bcfb16ec17b9155956c0fce5c0"
    assert webhook_sender.sign(KEY, TIMESTAMP, body) == expected


def test_a_signature_is_over_the_bytes_whatever_they_are() -> None:
    body = b"\x00\xff%d"
    expected = hmac.new(KEY.encode(), b"v0:1:" + body, hashlib.sha256).hexdigest()
    assert webhook_sender.sign(KEY, 1, body) == expected


async def test_webhooks_arrive_signed_and_in_order(receiver: Receiver) -> None:
    webhooks = [build(kind) for kind in KINDS]
    answers = await webhook_sender.send(Endpoint(receiver.url, KEY), webhooks, now=lambda: 1700000000.9)
    assert answers == [Answer(EVENT_ID, 200)] * len(webhooks)
    assert [post.body for post in receiver.received] == [webhook.body for webhook in webhooks]
    for post in receiver.received:
        assert post.headers["Content-Type"] == "application/json"
        assert post.headers["X-CIO-Timestamp"] == "1700000000"
        assert post.is_signed()


async def test_each_answer_is_told_and_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answers = {2: 401, 3: 302, 4: 503, 5: 204}
    answers = await webhook_sender.send(Endpoint(receiver.url, KEY), [build(("email", "sent"))] * 5)
    assert [answer.status for answer in answers] == [200, 401, 302, 503, 204]
    assert [answer.accepted for answer in answers] == [True, False, False, False, True]
    assert receiver.elsewhere == 0


async def test_no_answer_in_time_is_a_timeout(receiver: Receiver) -> None:
    receiver.answers = {1: None}
    endpoint = Endpoint(receiver.url, KEY)
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


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://a..b/hook", "a..b"),
        ("http://" + "a" * 64 + ".example/hook", "Cannot connect"),
        ("ftp://localhost/hook", "ftp://localhost/hook"),
        ("http:///hook", "/hook"),
        ("http://[::1/hook", "[::1"),
        ("unix:///hook", "unix"),
        ("http://256.256.256.256/", ""),
        ("http://localhost:99999/", ""),
    ],
)
async def test_a_url_that_nothing_can_be_sent_to_is_a_try_that_failed(url: str, said: str) -> None:
    [answer] = await webhook_sender.send(Endpoint(url, KEY), [build(("email", "sent"))])
    assert not answer.accepted
    assert answer.error
    assert said in answer.error


@dataclass
class Unsendable:
    """A webhook whose body can't be written."""

    error: Exception
    event_id: str = EVENT_ID
    kind: str = "email.sent"
    timestamp: int = TIMESTAMP

    @property
    def body(self) -> bytes:
        raise self.error


async def test_a_webhook_that_cannot_be_written_is_a_try_that_failed(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    half = UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
    for error in (half, RuntimeError("nobody foresaw this")):
        [answer] = await webhook_sender.send(Endpoint(receiver.url, KEY), [Unsendable(error)])
        assert (answer.status, answer.error) == (None, f"{type(error).__name__}: {error}")
    (record,) = caplog.records
    assert "email.sent" in record.getMessage()
    assert record.exc_info


async def test_one_attempt_is_made_at_the_time_given(receiver: Receiver) -> None:
    endpoint = Endpoint(receiver.url, KEY)
    async with aiohttp.ClientSession() as session:
        first = await webhook_sender.attempt(session, endpoint, build(("email", "sent")), 1)
        await webhook_sender.attempt(session, endpoint, build(("email", "sent")), 2)
    assert first == Answer(EVENT_ID, 200)
    one, two = receiver.received
    assert one.body == two.body
    assert one.headers["X-CIO-Signature"] != two.headers["X-CIO-Signature"]
