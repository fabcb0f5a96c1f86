"""What the settings say about webhooks: kinds that aren't kept, other names, and webhooks without a signature."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from connector import app
from connector.store import export
from tests.places import Place, example, post


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


def stored(connector: app.Running, what: str) -> list[dict[str, object]]:
    return list(export.everything(connector.db, what, connector.current.settings, app.now()))


def webhook(event_id: str, kind: str) -> bytes:
    object_type, metric = kind.split(".")
    return json.dumps({**json.loads(example(event_id)), "object_type": object_type, "metric": metric}).encode()


async def test_kinds_not_wanted_are_answered_counted_and_not_kept(place: Place, session: aiohttp.ClientSession) -> None:
    place.write(webhooks='signing_keys = ["env:SIGNING_KEY"]\nignore = ["*.drafted", "sms.*"]')
    async with app.running(place.path, place.settings()) as connector:
        for kind in ("email.drafted", "sms.sent", "email.sent"):
            assert (await post(session, connector.public_url, webhook(kind, kind)))[0] == 200
        assert [each["event_id"] for each in stored(connector, "webhooks")] == ["email.sent"]
        async with session.get(f"{connector.admin_url}/metrics") as response:
            text = await response.text()
    assert "connector_webhooks_ignored_total 2.0" in text
    assert "connector_webhooks_received_total 3.0" in text
    assert "connector_webhooks_stored_total 1.0" in text


async def test_an_unsubscribe_of_a_kind_not_wanted_still_opts_out_and_makes_no_event(
    place: Place, session: aiohttp.ClientSession
) -> None:
    place.write(webhooks='signing_keys = ["env:SIGNING_KEY"]\nignore = ["*.*"]')
    async with app.running(place.path, place.settings()) as connector:
        assert (await post(session, connector.public_url, webhook("a", "email.unsubscribed")))[0] == 200
        await connector.reader.read_outstanding()
        (user,) = stored(connector, "users")
        assert user["opted_out"] is True
        assert stored(connector, "events") == []
        assert [each["state"] for each in stored(connector, "webhooks")] == ["ignored"]


async def test_events_are_called_what_the_settings_say(place: Place, session: aiohttp.ClientSession) -> None:
    table = 'signing_keys = ["env:SIGNING_KEY"]\n[webhooks.names]\n"email.opened" = "Mail Read"'
    place.write(webhooks=table)
    async with app.running(place.path, place.settings()) as connector:
        await post(session, connector.public_url, example())
        await connector.reader.read_outstanding()
        assert [event["name"] for event in stored(connector, "events")] == ["Mail Read"]


LEGACY = b'{"event_type":"email_opened","event_id":"5f0e","timestamp":1613063089,"data":{"customer_id":"42"}}'


@pytest.mark.parametrize(
    ("query", "status"), [("?key=the+url+key", 200), ("?key=the%20url%20key", 200), ("?key=another", 401), ("", 401)]
)
async def test_an_unsigned_webhook_is_taken_when_its_url_carries_the_key(
    place: Place, session: aiohttp.ClientSession, query: str, status: int
) -> None:
    place.write(webhooks='url_key = "file:url_key"')
    (place.folder / "url_key").write_text("the url key\n")
    async with app.running(place.path, place.settings()) as connector:
        async with session.post(f"{connector.public_url}/webhooks/customerio{query}", data=LEGACY) as response:
            assert response.status == status
        await connector.reader.read_outstanding()
        found = [(event["name"], event["external_id"]) for event in stored(connector, "events")]
    assert found == ([("Email Opened", "42")] if status == 200 else [])


async def test_an_empty_url_key_lets_nobody_in(place: Place, session: aiohttp.ClientSession) -> None:
    place.write()
    async with app.running(place.path, place.settings()) as connector:
        for query in ("?key=", "?key", ""):
            async with session.post(f"{connector.public_url}/webhooks/customerio{query}", data=LEGACY) as response:
                assert response.status == 401
        assert stored(connector, "webhooks") == []
