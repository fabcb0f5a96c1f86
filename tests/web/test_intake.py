"""The tracking API over HTTP, on both stores: what is answered, and what is kept by then."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from connector import app
from connector.records import Message
from tests import tracking_corpus
from tests.places import Place
from tests.tracking_corpus import SERVER_KEY, WEB_KEY
from tests.web import intake_place
from tests.web.intake_place import kept

TRACK = {"type": "track", "userId": "42", "event": "Clicked", "messageId": "m-1"}
OTHER = {**TRACK, "messageId": "m-2"}


@pytest.fixture
async def connector(place: Place) -> AsyncIterator[app.Running]:
    async with intake_place.running(place) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


def basic(key: str = SERVER_KEY) -> str:
    return "Basic " + base64.b64encode(f"{key}:".encode()).decode()


class Post:
    """Posts to the connector as a server would; the status, the answer, and its headers."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self.headers: dict[str, str] = {}

    async def __call__(
        self, path: str, body: Any, key: str | None = SERVER_KEY, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = headers if key is None else {"Authorization": basic(key), **headers}
        async with self._session.post(self._url + path, data=io.BytesIO(data), headers=sent) as response:
            self.headers = dict(response.headers)
            return response.status, json.loads(await response.read())


@pytest.fixture
def post(connector: app.Running, session: aiohttp.ClientSession) -> Post:
    return Post(session, connector.public_url)


def rename(connector: app.Running, before: str, after: str) -> None:
    connector.db.write(lambda connection: connection.execute(sa.text(f"ALTER TABLE {before} RENAME TO {after}")))


DONE = (200, {"success": True})


async def test_a_message_is_kept_before_it_is_answered(connector: app.Running, post: Post) -> None:
    assert await post("/v1/track", TRACK) == DONE
    assert post.headers["Content-Type"] == "application/json"
    (row,) = kept(connector.db)
    assert (row.source_id, row.reason) == ("m-1", None)
    assert json.loads(row.body) == {"message": TRACK, "type": "track"}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/identify", "identify"),
        ("/v1/i", "identify"),
        ("/v1/track", "track"),
        ("/v1/t", "track"),
        ("/v1/page", "page"),
        ("/v1/p", "page"),
        ("/v1/screen", "screen"),
        ("/v1/s", "screen"),
        ("/v1/group", "group"),
        ("/v1/g", "group"),
        ("/v1/alias", "alias"),
        ("/v1/a", "alias"),
    ],
)
async def test_each_path_says_what_its_message_is(connector: app.Running, post: Post, path: str, kind: str) -> None:
    assert await post(path, {"userId": 42, "event": "e", "groupId": "g", "previousId": "a"}) == DONE
    (row,) = kept(connector.db)
    assert isinstance(row.message, Message)
    assert (row.message.type, row.message.external_id) == (kind, "42")


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/import", "/v1/b", "/beacon/v1/batch"])
async def test_a_batch_is_kept_message_by_message(connector: app.Running, post: Post, path: str) -> None:
    assert await post(path, {"batch": [TRACK, OTHER, TRACK], "context": {"ip": "::1"}}) == DONE
    assert await post(path, {"batch": []}) == DONE
    assert [row.source_id for row in kept(connector.db)] == ["m-1", "m-2"]
    assert [row.message.context for row in kept(connector.db) if isinstance(row.message, Message)] == [
        {"ip": "::1"}
    ] * 2


async def test_a_repeat_is_answered_like_the_first_and_kept_once(connector: app.Running, post: Post) -> None:
    assert [await post("/v1/track", TRACK), await post("/v1/batch", {"batch": [TRACK]})] == [DONE, DONE]
    assert await post("/v1/track", TRACK, WEB_KEY) == DONE
    assert len(kept(connector.db)) == 1


@pytest.mark.parametrize(
    ("query", "more", "headers"),
    [
        ("", {}, {"Authorization": basic()}),
        ("", {}, {"Authorization": "Basic " + base64.b64encode(SERVER_KEY.encode()).decode()}),
        ("", {}, {"Authorization": "Bearer " + SERVER_KEY}),
        ("?writeKey=" + SERVER_KEY, {}, {}),
        ("", {"writeKey": SERVER_KEY}, {}),
        ("", {"writeKey": SERVER_KEY}, {"Authorization": "Digest x"}),
    ],
    ids=["basic", "basic without a colon", "bearer", "query", "body", "body beside another scheme"],
)
async def test_the_key_may_come_in_four_forms(
    connector: app.Running, post: Post, query: str, more: dict[str, str], headers: dict[str, str]
) -> None:
    assert await post("/v1/track" + query, {**TRACK, **more}, None, **headers) == DONE
    assert await post("/v1/batch" + query, {"batch": [OTHER], **more}, None, **headers) == DONE
    assert [row.source_id for row in kept(connector.db)] == ["m-1", "m-2"]
    assert all(SERVER_KEY.encode() not in row.body for row in kept(connector.db))


@pytest.mark.parametrize(
    ("query", "more", "headers"),
    [
        ("", {}, {}),
        ("", {}, {"Authorization": basic("another")}),
        ("", {}, {"Authorization": basic("")}),
        ("", {}, {"Authorization": "Basic ?"}),
        ("", {}, {"Authorization": "Basic /w=="}),
        ("", {}, {"Authorization": "Bearer"}),
        ("", {"writeKey": SERVER_KEY}, {"Authorization": "Bearer another"}),
        ("?writeKey=", {}, {}),
        ("?writeKey=%ED%A0%80", {}, {}),
        ("", {"writeKey": "another"}, {}),
        ("", {"writeKey": ["another"]}, {}),
    ],
    ids=range(11),
)
async def test_without_the_right_key_nothing_is_kept(
    connector: app.Running, session: aiohttp.ClientSession, post: Post, query: str, more: Any, headers: dict[str, str]
) -> None:
    status, problem = await post("/v1/track" + query, {**TRACK, **more}, None, **headers)
    assert (status, problem["code"]) == (401, "bad_write_key")
    assert isinstance(problem["message"], str)
    assert kept(connector.db) == []
    async with session.get(f"{connector.admin_url}/status") as response:
        told = await response.json()
    assert (told["refused_intake"]["count"], told["refused_webhooks"]["count"]) == (1, 0)


async def test_what_comes_with_a_browsers_key_is_public(connector: app.Running, post: Post) -> None:
    assert await post("/v1/t", TRACK, WEB_KEY) == DONE
    assert await post("/v1/t", OTHER) == DONE
    assert [row.message.public for row in kept(connector.db) if isinstance(row.message, Message)] == [True, False]


async def test_without_any_key_messages_get_503_and_a_time_to_come_back(
    place: Place, session: aiohttp.ClientSession
) -> None:
    async with intake_place.running(place, "write_keys = []") as connector:
        post = Post(session, connector.public_url)
        status, problem = await post("/v1/track", TRACK, "")
        assert (status, problem["code"]) == (503, "no_write_key")
        assert post.headers["Retry-After"] == "10"
        assert post.headers["Access-Control-Allow-Origin"] == "*"
        assert kept(connector.db) == []


DEEP = b'{"type":"track","userId":"1","event":"e","properties":{"a":' + b"[" * 250 + b"]" * 250 + b"}}"
BAD = {
    "no_type": b'{"userId":"1"}',
    "unknown_type": b'{"type":"wave","userId":"1"}',
    "no_identifier": b'{"type":"identify","traits":{}}',
    "bad_identifier": b'{"type":"identify","userId":["1"]}',
    "wrong_shape": b'{"type":"identify","userId":"1","traits":[]}',
    "no_event_name": b'{"type":"track","userId":"1"}',
    "no_group_id": b'{"type":"group","userId":"1"}',
    "too_large": b'{"type":"track","userId":"1","event":"e","properties":{"a":"' + b"x" * 33 * 1024 + b'"}}',
    "too_deep": DEEP,
    "bad_timestamp": b'{"type":"track","userId":"1","event":"e","timestamp":"0000-01-01T00:00:00Z"}',
    "not_a_number": b'{"type":"track","userId":"1","event":"e","properties":{"a":NaN}}',
    "bad_text": b'{"type":"track","userId":"1","event":"\xff"}',
    "huge_number": b'{"type":"track","userId":"1","event":"e","properties":{"a":1e999}}',
}


async def test_bad_messages_of_a_batch_are_named_and_kept_and_the_rest_is_read(
    connector: app.Running, session: aiohttp.ClientSession, post: Post
) -> None:
    body = b'{"batch":[' + b",".join([json.dumps(TRACK).encode(), *BAD.values(), json.dumps(OTHER).encode()]) + b"]}"
    status, answer = await post("/v1/batch", body)

    assert (status, answer["success"]) == (200, True)
    assert [(error["index"], error["code"]) for error in answer["errors"]] == list(enumerate(BAD, start=1))
    assert all(isinstance(error["message"], str) and error["message"] for error in answer["errors"])
    rows = kept(connector.db)
    assert [row.reason for row in rows] == [None, *BAD, None]
    assert [row.state == "unread" for row in rows] == [row.reason is not None for row in rows]
    async with session.get(f"{connector.admin_url}/metrics") as response:
        metrics = await response.text()
    assert 'connector_intake_unread_total{reason="too_deep"} 1.0' in metrics
    assert f"connector_intake_received_total {len(rows)}.0" in metrics
    assert "connector_webhooks_stored_total 0.0" in metrics


@pytest.mark.parametrize("reason", sorted(BAD.keys() - {"no_type", "unknown_type"}))
async def test_a_single_bad_message_is_refused_with_its_reason_and_kept(
    connector: app.Running, post: Post, reason: str
) -> None:
    kind = json.loads(BAD[reason].decode(errors="replace").replace("1e999", "1"))["type"]
    status, problem = await post("/v1/" + kind, BAD[reason])

    assert (status, problem["code"]) == (413 if reason == "too_large" else 400, reason)
    assert post.headers["Content-Type"].startswith("application/problem+json")
    assert [(row.state, row.reason) for row in kept(connector.db)] == [("unread", reason)]


async def test_a_mended_message_is_taken_under_the_id_that_the_bad_one_had(connector: app.Running, post: Post) -> None:
    assert (await post("/v1/track", {"userId": "42", "messageId": "m-1"}))[0] == 400
    assert await post("/v1/track", TRACK) == DONE
    assert [row.reason for row in kept(connector.db)] == ["no_event_name", None]


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "not_json"),
        (b"[]", 400, "wrong_shape"),
        (b'{"batch":', 400, "not_json"),
        (b"[" * 100_000, 400, "wrong_shape"),
        (b'{"batch":' + b"[" * 1_000_000 + b"}", 400, "not_json"),
        (gzip.compress(b'{"batch":[]}', mtime=0)[:-5], 400, "bad_gzip"),
        (gzip.compress(gzip.compress(b'{"batch":[]}'), mtime=0), 400, "nested_gzip"),
        (gzip.compress(b" " * 5 * 1024 * 1024, mtime=0), 413, "too_large"),
        (b" " * 5 * 1024 * 1024, 413, "too_large"),
        (b" " * 17 * 1024 * 1024, 413, "too_large"),
        (b'{"batch":[' + b"1," * 20_000 + b"1]}", 413, "too_many"),
    ],
    ids=range(11),
)
async def test_an_unreadable_batch_is_refused_with_its_reason(
    connector: app.Running, post: Post, body: bytes, status: int, reason: str
) -> None:
    told, problem = await post("/v1/batch", body)

    assert (told, problem["code"], problem["status"]) == (status, reason, status)
    assert isinstance(problem["message"], str)
    assert kept(connector.db) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Encoding": "gzip", "Content-Type": "application/json"},
        {"Content-Encoding": "gzip", "Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "text/plain"},
    ],
)
async def test_a_body_is_told_by_its_content(connector: app.Running, post: Post, headers: dict[str, str]) -> None:
    for message, compress in ((TRACK, gzip.compress), (OTHER, bytes)):
        made: Callable[[bytes], bytes] = compress
        assert await post("/v1/track", made(json.dumps(message).encode()), **headers) == DONE
    assert [row.source_id for row in kept(connector.db)] == ["m-1", "m-2"]


async def test_a_batch_of_4_mib_is_kept_whole_while_others_are_answered(
    connector: app.Running, session: aiohttp.ClientSession, post: Post
) -> None:
    messages = [{**TRACK, "messageId": f"m-{number}", "properties": {"x": "x" * 300}} for number in range(10_000)]
    large = asyncio.create_task(post("/v1/batch", gzip.compress(json.dumps({"batch": messages}).encode(), 1, mtime=0)))
    answered = 0
    while not large.done():
        async with session.get(f"{connector.public_url}/healthz") as response:
            assert response.status == 200
        answered += 1

    assert await large == DONE
    assert answered > 3
    assert [row.source_id for row in kept(connector.db)] == [message["messageId"] for message in messages]


async def test_a_page_of_any_site_may_send_and_see_the_answer(connector: app.Running, post: Post) -> None:
    site = {"Origin": "https://www.example.com"}
    for path, body, key in (("/v1/t", TRACK, WEB_KEY), ("/v1/t", TRACK, "wrong"), ("/v1/t", {}, WEB_KEY)):
        await post(path, body, key, **site)
        assert post.headers["Access-Control-Allow-Origin"] == "*"


async def test_a_browser_that_asks_first_may_send_what_its_sdk_wants_to(
    connector: app.Running, session: aiohttp.ClientSession
) -> None:
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "AnonymousId, Authorization"}
    url = f"{connector.public_url}/v1/track"
    async with session.options(url, headers={"Origin": "https://www.example.com", **wanted}) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Access-Control-Allow-Methods"] == "POST"
        assert response.headers["Access-Control-Allow-Headers"] == "AnonymousId, Authorization"
    async with session.options(url, headers={"Origin": "https://www.example.com"}) as response:
        assert "Content-Type" in response.headers["Access-Control-Allow-Headers"]


async def test_only_pages_of_the_origins_that_are_set_may_send_from_the_edit_on(
    place: Place, session: aiohttp.ClientSession
) -> None:
    async with intake_place.running(place) as connector:
        url = f"{connector.public_url}/v1/track"
        place.write(intake=f'{intake_place.KEYS}\norigins = ["https://www.example.com"]')
        async with asyncio.timeout(10):
            while connector.current.settings.intake.origins == ("*",):
                await asyncio.sleep(0.01)
        told = {}
        for origin in ("https://www.example.com", "https://other.example.com", None):
            async with session.options(url, headers={"Origin": origin} if origin else {}) as response:
                told[origin] = response.headers.get("Access-Control-Allow-Origin")
                assert response.headers["Vary"] == "Origin"
                assert ("Access-Control-Allow-Methods" in response.headers) == (told[origin] is not None)
        assert told == {
            "https://www.example.com": "https://www.example.com",
            "https://other.example.com": None,
            None: None,
        }


async def test_what_the_store_can_not_take_now_gets_503_and_a_time_to_come_back(
    connector: app.Running, post: Post
) -> None:
    rename(connector, "inbox", "away")
    status, problem = await post("/v1/track", TRACK)
    rename(connector, "away", "inbox")

    assert (status, problem["code"]) == (503, "store_unavailable")
    assert post.headers["Retry-After"] == "10"


async def test_every_recorded_request_is_taken_as_it_is(connector: app.Running, session: aiohttp.ClientSession) -> None:
    for case in tracking_corpus.cases():
        async with session.post(connector.public_url + case.path, data=case.body, headers=case.headers) as response:
            assert (response.status, await response.read()) == (200, b'{"success": true}'), case.name

        rows = kept(connector.db)[-len(case.messages) :]
        assert [row.source_id for row in rows] == [message["message_id"] for message in case.messages], case.name
        is_public = WEB_KEY in case.path or WEB_KEY.encode() in case.body or basic(WEB_KEY) in case.headers.values()
        assert [row.message.public for row in rows if isinstance(row.message, Message)] == [is_public] * len(rows)
    assert not any(key.encode() in row.body for row in kept(connector.db) for key in (SERVER_KEY, WEB_KEY))
