"""Real SDKs as clients: each delivers the same calls, and the same users and events come of them, on both stores."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Protocol

import pytest
from hightouch.htevents.client import Client as HightouchClient
from rudderstack.analytics.client import Client as RudderstackClient
from segment.analytics.client import Client as SegmentClient

from connector import app
from connector.records import Message
from connector.store import export
from tests.places import Place
from tests.tracking_corpus import SERVER_KEY
from tests.web import intake_place
from tests.web.intake_place import kept

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TRAITS = {"email": "Ann@Example.com", "plan": "pro", "createdAt": "2020-01-01T00:00:00Z"}


class Client(Protocol):
    """What the three have in common."""

    def identify(self, *arguments: Any, **more: Any) -> Any: ...
    def track(self, *arguments: Any, **more: Any) -> Any: ...
    def page(self, *arguments: Any, **more: Any) -> Any: ...
    def screen(self, *arguments: Any, **more: Any) -> Any: ...
    def group(self, *arguments: Any, **more: Any) -> Any: ...
    def alias(self, *arguments: Any, **more: Any) -> Any: ...
    def flush(self) -> None: ...
    def join(self) -> None: ...


SDKS = {"segment": SegmentClient, "rudderstack": RudderstackClient, "hightouch": HightouchClient}


@pytest.fixture
async def connector(place: Place) -> AsyncIterator[app.Running]:
    async with intake_place.running(place) as running:
        yield running


def tell(client: Client) -> None:
    """All six calls: anon-1 looks around, is Ann, whose account is Acme, and was somebody else's cookie before."""
    client.page(anonymous_id="anon-1", category="Docs", name="Install", properties={"url": "https://www.example.com/"})
    client.identify("42", TRAITS, anonymous_id="anon-1")
    client.track("42", "Order Completed", {"total": 9.5}, timestamp=AT)
    client.screen("42", "Shop", "Basket", {"items": 2})
    client.group("42", "acme", {"name": "Acme", "seats": 5})
    client.alias("anon-0", "42")
    client.flush()
    client.join()


async def deliver(sdk: str, connector: app.Running, **options: Any) -> list[str]:
    """Runs the SDK in a thread of its own; returns the faults that it reports."""
    faults: list[str] = []

    def run() -> None:
        client = SDKS[sdk](
            SERVER_KEY,
            host=connector.public_url,
            on_error=lambda error, _items: faults.append(str(error)),
            max_retries=1,
            **options,
        )
        tell(client)

    await asyncio.to_thread(run)
    return faults


@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("sdk", SDKS)
async def test_what_an_sdk_sends_is_kept_and_read(connector: app.Running, sdk: str, gzip: bool) -> None:
    assert await deliver(sdk, connector, gzip=gzip) == []

    rows = kept(connector.db)
    assert [row.reason for row in rows] == [None] * 6
    page, identify, track, screen, group, alias = [row.message for row in rows if isinstance(row.message, Message)]
    assert (page.type, page.anonymous_id, page.name) == ("page", "anon-1", "Install")
    assert page.properties["url"] == "https://www.example.com/"
    assert (identify.external_id, identify.email, identify.traits) == ("42", "Ann@Example.com", {"plan": "pro"})
    assert identify.created_at == datetime(2020, 1, 1, tzinfo=UTC)
    assert (track.name, track.properties, track.said_at) == ("Order Completed", {"total": 9.5}, AT)
    assert abs((track.occurred_at - AT).total_seconds()) < 5
    assert (screen.name, screen.properties["items"]) == ("Basket", 2)
    assert group.account == {"name": "Acme", "seats": 5, "id": "acme"}
    assert (alias.external_id, alias.previous_id) == ("42", "anon-0")


async def told(connector: app.Running, sdk: str) -> tuple[list[Any], list[Any]]:
    """The users and events that come of its calls, without what differs each time."""
    assert await deliver(sdk, connector) == []
    await connector.reader.read_outstanding()
    found = {
        what: list(export.everything(connector.db, what, connector.current.settings, app.now()))
        for what in ("users", "events")
    }
    users = [
        {name: user[name] for name in ("external_id", "email", "anonymous_ids", "attributes", "created_at")}
        for user in found["users"]
    ]
    names = {user["id"]: user["external_id"] for user in found["users"]}
    events = [(event["type"], event["name"], event["properties"], names[event["user_id"]]) for event in found["events"]]
    return users, events


@pytest.mark.parametrize("sdk", SDKS)
async def test_the_same_users_and_events_come_of_every_sdk(connector: app.Running, sdk: str) -> None:
    users, events = await told(connector, sdk)

    assert users == [
        {
            "external_id": "42",
            "email": "Ann@Example.com",
            "anonymous_ids": ["anon-0", "anon-1"],
            "attributes": {"plan": "pro", "account": {"name": "Acme", "seats": 5, "id": "acme"}},
            "created_at": datetime(2020, 1, 1, tzinfo=UTC),
        }
    ]
    assert [(kind, name, user) for kind, name, _, user in events] == [
        ("page", "Install", "42"),
        ("track", "Order Completed", "42"),
        ("screen", "Basket", "42"),
    ]


@pytest.mark.parametrize("sdk", SDKS)
async def test_an_sdk_with_a_wrong_key_is_told_why(
    connector: app.Running, sdk: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tests.web.test_intake_sdks.SERVER_KEY", "another")
    with caplog.at_level(logging.CRITICAL):
        faults = await deliver(sdk, connector)

    assert any("bad_write_key" in fault for fault in faults)
    assert kept(connector.db) == []
