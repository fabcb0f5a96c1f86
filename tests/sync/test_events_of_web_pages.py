"""Page views as browsers send them, through the intake and the worker to a sandbox."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from connector.sandbox import read_back
from tests import tracking_corpus
from tests.places import Place, Sandbox
from tests.web import intake_place

BROWSERS = ("analytics-js.", "analytics-next.", "cdp-analytics-browser.")


@pytest.mark.parametrize("api", ["batch", "single"])
async def test_recorded_page_views_arrive_as_pages_with_url_and_referrer(
    place: Place, sandbox: Sandbox, api: str
) -> None:
    place.track_url = sandbox.url
    place.more = {
        "customerio": place.customerio(f'api = "{api}"'),
        "people": 'segments = ["All"]\nrequire_email = false',
        "segments": '"All" = { everyone = true }',
        "events": 'names = ["page"]\nanonymous = true\nmax_age = "3650d"',
        "sync": 'every = "1h"\nlatency = "20ms"',
    }
    cases = [each for each in tracking_corpus.cases() if each.name.startswith(BROWSERS)]
    wanted = {
        each["message_id"]: each["properties"] for case in cases for each in case.messages if each["type"] == "page"
    }
    assert len(wanted) >= 5
    async with intake_place.running(place) as connector, aiohttp.ClientSession() as session:
        for case in cases:
            async with session.post(connector.public_url + case.path, data=case.body, headers=case.headers) as response:
                assert response.status == 200
        async with asyncio.timeout(20):
            while len(found := activities(sandbox)) < len(wanted):
                await asyncio.sleep(0.02)
    assert sorted(by_url(each) for each in found) == sorted(
        ("page", properties["url"], properties["url"], properties["referrer"]) for properties in wanted.values()
    )
    assert all(each["data"]["title"] == "Docs" and each["data"]["path"] == "/docs" for each in found)


def activities(sandbox: Sandbox) -> list[dict[str, Any]]:
    return [read_back.activity(*each) for each in read_back.newest_activities(sandbox.state, 1000)]


def by_url(activity: dict[str, Any]) -> tuple[str, str, str, str]:
    return activity["type"], activity["name"], activity["data"]["url"], activity["data"]["referrer"]
