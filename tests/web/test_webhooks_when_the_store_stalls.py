"""A store that can't take a webhook now: the sender is told to come back, well inside its four seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import pytest
import sqlalchemy as sa

from connector import app
from connector.core import normalize
from connector.store import inbox
from connector.store.database import Database
from tests.places import Place, example, post, signed


@contextmanager
def stalled(url: str) -> Iterator[None]:
    """Somebody else holds the lock that every append needs."""
    other = Database(url)
    with other.transaction() as connection:
        if other.dialect == "postgresql":
            connection.execute(sa.text("LOCK TABLE inbox IN EXCLUSIVE MODE"))
        yield
    other.close()


async def test_a_webhook_waits_a_little_then_gets_503_and_is_stored_once_in_the_end(place: Place) -> None:
    place.write()
    body = example()
    async with app.running(place.path, place.settings()) as connector, aiohttp.ClientSession() as session:
        url = f"{connector.public_url}/webhooks/customerio"
        with stalled(place.store_url):
            began = time.monotonic()
            async with session.post(url, data=body, headers=signed(body)) as response:
                assert response.status == 503
                assert int(response.headers["Retry-After"]) > 0
                assert (await response.json(content_type=None))["code"] == "store_slow"
            assert time.monotonic() - began < 3.9
        assert (await post(session, connector.public_url, body))[0] == 200
        assert await connector.db.run_read(inbox.count) == 1


async def test_a_webhook_gets_503_when_the_store_refuses_it(place: Place) -> None:
    place.write()
    async with app.running(place.path, place.settings()) as connector, aiohttp.ClientSession() as session:
        is_sqlite = connector.db.dialect == "sqlite"
        refuse = (
            "CREATE TRIGGER refused BEFORE INSERT ON inbox BEGIN SELECT RAISE(ABORT, 'not now'); END"
            if is_sqlite
            else "ALTER TABLE inbox ADD CONSTRAINT refused CHECK (id < 0) NOT VALID"
        )
        take = "DROP TRIGGER refused" if is_sqlite else "ALTER TABLE inbox DROP CONSTRAINT refused"
        await connector.db.run(lambda connection: connection.execute(sa.text(refuse)))
        status, answer = await post(session, connector.public_url, example())
        assert (status, "store_unavailable" in answer) == (503, True)
        await connector.db.run(lambda connection: connection.execute(sa.text(take)))
        assert (await post(session, connector.public_url, example()))[0] == 200
        assert await connector.db.run_read(inbox.count) == 1


async def test_what_nobody_foresaw_gets_503_and_not_a_status_that_costs_an_hour(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_body: bytes) -> None:
        raise ZeroDivisionError

    place.write()
    async with app.running(place.path, place.settings()) as connector, aiohttp.ClientSession() as session:
        with monkeypatch.context() as patched:
            patched.setattr(normalize, "glance", fails)
            status, answer = await post(session, connector.public_url, example())
        assert (status, '"internal"' in answer) == (503, True)
        assert (await post(session, connector.public_url, example()))[0] == 200
