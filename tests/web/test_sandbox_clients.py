"""Three clients that somebody else wrote work against the sandbox, unchanged but for the host they call.

The two SDKs speak HTTPS only, so the sandbox serves with a certificate that is made for the test and that they are told
to trust in the way each documents: `REQUESTS_CA_BUNDLE`, `SSL_CERT_FILE`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import shlex
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import customerio
import pytest
import trustme
from async_customerio import AsyncCustomerIO, AsyncCustomerIOError

from connector.sandbox import track_api
from connector.sandbox.rules.people import Person
from connector.sandbox.state import State
from tests.track_client import Time

README = Path(__file__).parents[2] / "README.md"
ULID = "01E4C4CT6YDC7Y5M7FE1GWWPQJ"
NOW = int(Time().now)


@dataclass
class Secure:
    """A sandbox behind a certificate that both SDKs trust."""

    host: str
    port: int
    state: State

    def person(self, customer_id: str = "42") -> Person:
        found = self.state.find("id", customer_id)
        assert found is not None
        return found

    def names(self) -> list[str]:
        return [activity.name for _, activity in self.state.activities()]


@pytest.fixture
async def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Secure]:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    state = State(Time())
    app = track_api.create_app(state, site_id="site", api_key="key")
    async with track_api.serve(app, tls=context) as running:
        assert running.url.startswith("https://")
        yield Secure(running.host, running.port, state)


# The vendor's SDK


async def with_sdk(secure: Secure, use: Callable[[customerio.CustomerIO], None], api_key: str = "key") -> None:
    """On a thread: the SDK is synchronous."""

    def work() -> None:
        with customerio.CustomerIO("site", api_key, host=secure.host, port=secure.port) as sdk:
            use(sdk)

    await asyncio.to_thread(work)


async def test_every_method_of_the_vendors_sdk_works(secure: Secure) -> None:
    def use(sdk: customerio.CustomerIO) -> None:
        sdk.identify(id="42", email="a@b.co", plan="pro", since=datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC))
        sdk.identify(id="other user", plan="free", seats=3)
        sdk.track("42", "bought", {"total": 12}, id=ULID)
        sdk.track("42", "bought", {"total": 12}, id=ULID)
        sdk.track("a@b.co", "by email", timestamp=1000)
        sdk.track_anonymous("anon", "seen", {"page": 1})
        sdk.track_anonymous(None, "invited", {"recipient": "new@b.co"})
        sdk.pageview("42", "https://x.co/", referrer="https://y.co")
        sdk.backfill("42", "long ago", 1000, total=1)
        sdk.add_device("42", "token/1", "ios", last_used=1000)
        sdk.add_device("42", "token/2", "android")
        sdk.delete_device("42", "token/2")
        sdk.merge_customers("id", "42", "id", "other user")
        sdk.identify(id="gone")
        sdk.delete("gone")
        sdk.identify(id="blocked")
        sdk.suppress("blocked")
        sdk.identify(id="blocked")
        sdk.suppress("freed")
        sdk.unsuppress("freed")
        sdk.identify(id="freed")

    await with_sdk(secure, use)
    person = secure.person()
    assert (person.email, person.attributes) == ("a@b.co", {"plan": "pro", "since": 1_700_000_000, "seats": 3})
    assert [(each.token, each.platform, each.last_used) for each in person.devices.values()] == [
        ("token/1", "ios", 1000)
    ]
    assert secure.names() == ["bought", "by email", "seen", "invited", "https://x.co/", "long ago"]
    assert [each.id for each in secure.state.people] == ["42", "freed"]
    assert secure.state.refused == {"repeated_event": 1, "suppressed": 1}
    assert {call.status for call in secure.state.calls} == {200}


async def test_the_vendors_sdk_sends_batches_and_sees_what_was_wrong(secure: Secure) -> None:
    statuses: list[int] = []
    errors: list[object] = []

    def use(sdk: customerio.CustomerIO) -> None:
        person = {"type": "person", "identifiers": {"id": "42"}}
        good = sdk.batch([{**person, "action": "identify", "attributes": {"plan": "pro"}}])
        mixed = sdk.batch([{**person, "action": "event", "name": ""}, {**person, "action": "event", "name": "bought"}])
        statuses.extend((good.status_code, mixed.status_code))
        errors.extend(mixed.json()["errors"])
        with pytest.raises(customerio.CustomerIOException, match=r"^400: .*value for attribute 'x' cannot be longer"):
            sdk.identify(id="42", x="v" * 1001)

    await with_sdk(secure, use)
    assert statuses == [200, 207]
    assert errors == [{"batch_index": 0, "reason": "required", "field": "name", "message": "name cannot be blank"}]
    assert (secure.person().attributes, secure.names()) == ({"plan": "pro"}, ["bought"])


async def test_wrong_credentials_stop_the_vendors_sdk(secure: Secure) -> None:
    def use(sdk: customerio.CustomerIO) -> None:
        with pytest.raises(customerio.CustomerIOException, match=r"^401: "):
            sdk.identify(id="42")

    await with_sdk(secure, use, api_key="another")


# async-customerio


async def test_the_v1_methods_of_async_customerio_work(secure: Secure) -> None:
    async with AsyncCustomerIO("site", "key", host=secure.host, port=secure.port) as sdk:
        assert (await sdk.get_region())["region"] == "us"
        await sdk.identify("42", email="a@b.co", plan="pro")
        await sdk.identify("43", seats=3)
        await sdk.track("42", "bought", total=12)
        await sdk.track_anonymous("anon", "seen")
        await sdk.pageview("42", "https://x.co/")
        await sdk.backfill("42", "long ago", 1000)
        await sdk.add_device("42", "token/1", "ios", last_used=1000)
        await sdk.add_device("42", "token-2", "ios")
        await sdk.delete_device("42", "token-2")
        await sdk.add_to_segment(7, ["42", "43", "nobody"])
        await sdk.add_to_segment(9, ["A@b.co"], id_type="email")
        await sdk.remove_from_segment(7, ["43"])
        await sdk.merge_customers("id", "42", "id", "43")
        await sdk.suppress("44")
        await sdk.identify("44")
        await sdk.unsuppress("44")
        await sdk.identify("44")
        await sdk.delete("44")
        with pytest.raises(AsyncCustomerIOError, match=r"HTTP 400: .*value for attribute 'x'"):
            await sdk.identify("42", x="v" * 1001)
    person = secure.person()
    assert (person.attributes, person.segments, list(person.devices)) == (
        {"plan": "pro", "seats": 3},
        {7, 9},
        ["token/1"],
    )
    assert secure.names() == ["bought", "seen", "https://x.co/", "long ago"]
    assert [each.id for each in secure.state.people] == ["42"]
    assert secure.state.refused == {"suppressed": 1}


async def test_the_v2_methods_of_async_customerio_work(secure: Secure) -> None:
    who, other, acme = {"id": "42"}, {"email": "other@b.co"}, {"object_type_id": "1", "object_id": "acme"}
    async with AsyncCustomerIO("site", "key", host=secure.host, port=secure.port) as client:
        sdk = client.v2
        await sdk.identify_person(who, plan="pro")
        await sdk.identify_person(other, seats=3)
        await sdk.track_person_event(who, "bought", total=12)
        await sdk.person_pageview(who, "https://x.co/")
        await sdk.person_screen(who, "Home")
        await sdk.add_person_device(who, "token/1", "ios")
        await sdk.add_person_device(who, "token/2", "ios")
        await sdk.delete_person_device(who, "token/2")
        await sdk.identify_object(acme, plan="team")
        await sdk.add_person_relationships(who, [{"identifiers": acme}])
        await sdk.add_object_relationships(acme, [{"identifiers": other, "relationship_attributes": {"role": "x"}}])
        await sdk.delete_person_relationships(who, [{"identifiers": acme}])
        [kept] = list(secure.state.objects)
        assert (kept.attributes, list(kept.people.values())) == ({"plan": "team"}, [{"role": "x"}])
        await sdk.delete_object_relationships(acme, [{"identifiers": other}])
        await sdk.merge_persons(who, other)
        await sdk.delete_object(acme)
        await sdk.suppress_person({"id": "44"})
        await sdk.identify_person({"id": "44"})
        await sdk.unsuppress_person({"id": "44"})
        await sdk.identify_person({"id": "44"})
        await sdk.delete_person({"id": "44"})
        answer = await sdk.send_batch(
            [
                {"type": "person", "action": "event", "identifiers": {"id": ""}, "name": "lost"},
                {"type": "person", "action": "event", "identifiers": {"id": "42"}, "name": "kept"},
            ]
        )
    assert [error["batch_index"] for error in answer["errors"]] == [0]
    person = secure.person()
    assert (person.email, person.attributes) == ("other@b.co", {"plan": "pro", "seats": 3})
    assert list(person.devices) == ["token/1"]
    assert secure.names() == ["bought", "https://x.co/", "Home", "kept"]
    assert len(secure.state.objects) == 0
    assert secure.state.refused == {"suppressed": 1}


# curl


def curl_commands() -> list[list[str]]:
    """As the README has them under its heading, split as a shell would."""
    sections = re.split(r"^## ", README.read_text(), flags=re.MULTILINE)
    [sandbox] = [each for each in sections if each.startswith("The sandbox\n")]
    [lines] = re.findall(r"^```sh\n(.*?)^```", sandbox, flags=re.MULTILINE | re.DOTALL)
    words = shlex.split(lines.replace("\\\n", " "), comments=True)
    starts = [at for at, word in enumerate(words) if word == "curl"]
    return [words[at:end] for at, end in itertools.pairwise([*starts, len(words)])]


async def test_the_curl_lines_of_the_readme_work_as_written() -> None:
    """On the sandbox that `connector sandbox` starts, with its own credentials; only the port is another one."""
    command = [sys.executable, "-m", "connector", "sandbox", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            introduced = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
            assert introduced is not None
            answers = [curl(command, introduced.group()) for command in curl_commands()]
        finally:
            process.terminate()
    auth, identified, tracked, batch, edited, older, people, log = answers
    assert auth == {"meta": {"message": "nice credentials."}}
    assert identified == tracked == edited == older == {}
    assert [error["batch_index"] for error in batch["errors"]] == [1]
    [person] = people
    assert (person["id"], person["email"]) == ("42", "ada@example.com")
    assert person["attributes"] == {"plan": "team", "seats": 3}
    assert [entry["reason"] for entry in log] == ["older_timestamp"]


def curl(command: list[str], url: str) -> Any:
    here = [word.replace("http://127.0.0.1:9000", url) for word in command]
    done = subprocess.run(here, capture_output=True, text=True, timeout=30, check=True)
    return json.loads(done.stdout)
