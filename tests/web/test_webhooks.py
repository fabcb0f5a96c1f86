"""`POST /webhooks/customerio`, over HTTP, on both stores: what is answered, and what is stored by then."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from connector import app
from connector.store import export
from tests.places import KEY, VENDOR_EXAMPLE, Place, example, post, signed


@pytest.fixture
async def connector(place: Place) -> AsyncIterator[app.Running]:
    place.write()
    async with app.running(place.path, place.settings()) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


async def metrics(session: aiohttp.ClientSession, connector: app.Running) -> str:
    async with session.get(f"{connector.admin_url}/metrics") as response:
        assert response.status == 200
        return await response.text()


def stored(connector: app.Running, what: str) -> list[dict[str, object]]:
    return list(export.everything(connector.db, what, connector.current.settings, app.now()))


async def test_an_authentic_webhook_is_stored_before_it_is_answered(
    connector: app.Running, session: aiohttp.ClientSession
) -> None:
    assert (await post(session, connector.public_url, example()))[0] == 200
    (row,) = stored(connector, "webhooks")
    assert row["body"] == VENDOR_EXAMPLE
    assert row["event_id"] == "01E4C4CT6YDC7Y5M7FE1GWWPQJ"


async def test_a_wrong_signature_gets_401_and_leaves_no_row(
    connector: app.Running, session: aiohttp.ClientSession
) -> None:
    body = example()
    for headers in ({}, {"X-CIO-Timestamp": "1", "X-CIO-Signature": "00"}, signed(body, key="another"), signed(b"{}")):
        async with session.post(f"{connector.public_url}/webhooks/customerio", data=body, headers=headers) as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"] == 'Bearer realm="connector"'
            problem = await response.json(content_type="application/problem+json")
        assert problem["code"] == "bad_signature"
    assert stored(connector, "webhooks") == []
    assert 'connector_webhooks_refused_total{reason="bad_signature"} 4.0' in await metrics(session, connector)


async def test_the_same_body_twice_gets_200_twice_and_leaves_one_event(
    connector: app.Running, session: aiohttp.ClientSession
) -> None:
    answers = [await post(session, connector.public_url, example()) for _ in range(2)]
    assert [status for status, _ in answers] == [200, 200]
    await connector.reader.read_outstanding()
    assert len(stored(connector, "events")) == 1
    assert len(stored(connector, "webhooks")) == 1


async def test_repeats_that_share_a_commit_leave_one_row_each(
    connector: app.Running, session: aiohttp.ClientSession
) -> None:
    bodies = [example(f"event-{number % 20}") for number in range(100)]
    answers = await asyncio.gather(*(post(session, connector.public_url, body) for body in bodies))
    assert {status for status, _ in answers} == {200}
    assert len(stored(connector, "webhooks")) == 20


async def test_an_authentic_body_of_2_mib_is_kept_unread(
    connector: app.Running, session: aiohttp.ClientSession
) -> None:
    body = example(subject="x" * 2 * 1024 * 1024)
    assert (await post(session, connector.public_url, body))[0] == 200
    await connector.reader.read_outstanding()
    (row,) = stored(connector, "webhooks")
    assert (row["state"], row["reason"]) == ("unread", "too_large")
    assert row["body"] == json.loads(body)
    assert stored(connector, "events") == []


async def test_a_body_of_17_mib_gets_413(connector: app.Running, session: aiohttp.ClientSession) -> None:
    body = b" " * 17 * 1024 * 1024
    status, answer = await post(session, connector.public_url, body)
    assert (status, json.loads(answer)["code"]) == (413, "too_large")
    assert stored(connector, "webhooks") == []
    assert 'connector_webhooks_refused_total{reason="too_large"} 1.0' in await metrics(session, connector)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b"\xff\x00 not json", "not_json"),
        (b"[]", "wrong_shape"),
        (b'{"event_id": "e", "object_type": "email", "metric": "sent"}', "wrong_shape"),
        (b'{"event_id": "e", "object_type": "fax", "metric": "sent", "data": {"a": "\\ud800"}}', "bad_text"),
        (b'{"event_id": "e", "object_type": "fax", "metric": "sent", "data": {"a": 1e999}}', "huge_number"),
        (b'{"event_id": "e", "object_type": "fax", "metric": "sent", "data": {}, "data": {}}', "duplicate_keys"),
        (b'{"event_id": "e", "data": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "too_deep"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_can_not_be_read_gets_200_and_is_kept_unread(
    connector: app.Running, session: aiohttp.ClientSession, body: bytes, reason: str
) -> None:
    assert (await post(session, connector.public_url, body))[0] == 200
    await connector.reader.read_outstanding()
    (row,) = stored(connector, "webhooks")
    assert (row["state"], row["reason"]) == ("unread", reason)
    assert stored(connector, "events") == []


async def test_the_next_webhook_is_read_after_one_that_can_not_be(
    connector: app.Running, session: aiohttp.ClientSession
) -> None:
    for body in (b"{", example("good"), b"]"):
        await post(session, connector.public_url, body)
    await connector.reader.read_outstanding()
    assert [event["source_id"] for event in stored(connector, "events")] == ["good"]


async def test_without_a_key_every_webhook_gets_503_and_a_time_to_come_back(
    place: Place, session: aiohttp.ClientSession
) -> None:
    place.write(webhooks="signing_keys = []")
    async with app.running(place.path, place.settings()) as connector:
        body = example()
        url = f"{connector.public_url}/webhooks/customerio"
        async with session.post(url, data=body, headers=signed(body, key="")) as response:
            assert response.status == 503
            assert int(response.headers["Retry-After"]) > 0
            assert (await response.json(content_type=None))["code"] == "no_signing_key"
        assert stored(connector, "webhooks") == []


async def test_several_keys_are_accepted_while_one_is_rotated(place: Place, session: aiohttp.ClientSession) -> None:
    place.write(webhooks='signing_keys = ["env:SIGNING_KEY", "file:next"]')
    (place.folder / "next").write_text("the next key\n")
    async with app.running(place.path, place.settings()) as connector:
        for number, key in enumerate((KEY, "the next key")):
            body = example(f"event-{number}")
            assert (await post(session, connector.public_url, body, **signed(body, key)))[0] == 200
        assert len(stored(connector, "webhooks")) == 2


async def test_a_compressed_body_is_verified_and_kept_as_the_bytes_that_came(
    connector: app.Running, session: aiohttp.ClientSession
) -> None:
    body = gzip.compress(example(), mtime=0)
    url = f"{connector.public_url}/webhooks/customerio"
    for signed_bytes, status in ((body, 200), (example(), 401)):
        headers = {**signed(signed_bytes), "Content-Encoding": "gzip"}
        async with session.post(url, data=body, headers=headers) as response:
            assert response.status == status
    await connector.reader.read_outstanding()
    assert [(row["state"], row["reason"]) for row in stored(connector, "webhooks")] == [("unread", "not_json")]


async def test_other_methods_and_paths_are_problems_too(connector: app.Running, session: aiohttp.ClientSession) -> None:
    async with session.get(f"{connector.public_url}/webhooks/customerio") as response:
        assert (response.status, response.content_type) == (405, "application/problem+json")
    async with session.get(f"{connector.public_url}/nowhere") as response:
        assert (await response.json(content_type="application/problem+json"))["code"] == "not_found"


async def test_health_is_public_and_status_is_not(connector: app.Running, session: aiohttp.ClientSession) -> None:
    for url in (connector.public_url, connector.admin_url):
        for path in ("/healthz", "/readyz"):
            async with session.get(url + path) as response:
                assert response.status == 200, path
    async with session.get(connector.public_url + "/status") as response:
        assert response.status == 404
    await post(session, connector.public_url, example())
    await connector.reader.read_outstanding()
    async with session.get(connector.admin_url + "/status") as response:
        status = await response.json()
    assert status["stored"] == {"users": 1, "events": 1, "people": 0}
    assert status["inbox"]["new"] == status["inbox"]["unread"] == 0
    assert status["settings"]["state"] == "running"


async def test_with_a_token_the_admin_listener_wants_it(place: Place, session: aiohttp.ClientSession) -> None:
    place.write(admin='port = 0\ntoken = "file:token"')
    (place.folder / "token").write_text("an admin token")
    async with app.running(place.path, place.settings()) as connector:
        for given, status in (("", 401), ("Bearer wrong", 401), ("Bearer an admin token", 200)):
            async with session.get(connector.admin_url + "/status", headers={"Authorization": given}) as response:
                assert response.status == status
                challenge = response.headers.get("WWW-Authenticate")
                assert challenge == ('Bearer realm="connector"' if status == 401 else None)
        async with session.get(connector.admin_url + "/readyz") as response:
            assert response.status == 200
