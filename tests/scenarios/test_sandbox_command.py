"""`connector sandbox` as a real process: its options, what it answers, and that a killed one goes on with its file."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from connector import errors
from connector.cli import cli
from tests import warm
from tests.receiver import receiving
from tests.sandbox_process import Sandbox, environment

ULID = "01E4C4CT6YDC7Y5M7FE1GWWPQJ"


@pytest.fixture
def start() -> Iterator[Callable[..., Sandbox]]:
    """Starts sandboxes that don't outlive the test."""
    started: list[Sandbox] = []

    def start(*options: str) -> Sandbox:
        started.append(Sandbox(*options))
        return started[-1]

    yield start
    for sandbox in started:
        sandbox.kill()


def refused(*options: str) -> str:
    status, shown = warm.run(["sandbox", "--port", "0", *options], environment(), 60)
    assert status == 2, shown
    assert "Traceback" not in shown
    return shown


def test_a_killed_sandbox_goes_on_with_its_file(start: Callable[..., Sandbox], tmp_path: Path) -> None:
    file = tmp_path / "sandbox.db"
    sandbox = start("--state", str(file))
    event = {"type": "person", "action": "event", "identifiers": {"id": "42"}, "name": "bought", "id": ULID}
    assert sandbox.call("PUT", "/api/v1/customers/42", {"email": "a@b.co", "plan": "pro"}) == (200, {})
    assert sandbox.call("POST", "/api/v1/customers/43/suppress") == (200, {})
    assert sandbox.call("POST", "/api/v2/batch", {"batch": [event]}) == (200, {})
    assert (
        sandbox.call("POST", "/sandbox/edit", {"identifiers": {"id": "42"}, "attributes": {"plan": "team"}})[0] == 200
    )
    before = {path: sandbox.get(path) for path in ("/sandbox/people", "/sandbox/activities", "/sandbox/log")}
    assert before["/sandbox/people"][0]["attributes"] == {"plan": "team"}
    assert "locked" in refused("--state", str(file))
    sandbox.kill()

    again = start("--state", str(file))
    assert any("1 people, 1 activities" in line for line in again.said)
    assert {path: again.get(path) for path in before} == before
    assert again.call("POST", "/api/v2/batch", {"batch": [event]}) == (200, {})
    assert again.call("PUT", "/api/v1/customers/43", {"plan": "pro"}) == (200, {})
    assert [entry["reason"] for entry in again.get("/sandbox/log")][:2] == ["suppressed", "repeated_event"]
    assert len(again.get("/sandbox/people")) == len(again.get("/sandbox/activities")) == 1


def test_names_are_said_as_they_are(start: Callable[..., Sandbox], tmp_path: Path) -> None:
    file = tmp_path / "[b" / "[" / "b] :smile:.db"
    file.parent.mkdir(parents=True)
    assert f"state in {file}: 0 people, 0 activities\n" in start("--state", str(file)).said


def test_without_a_file_nothing_is_kept(start: Callable[..., Sandbox]) -> None:
    sandbox = start()
    sandbox.call("PUT", "/api/v1/customers/42", {})
    sandbox.kill()
    assert start().get("/sandbox/people") == []


def test_faults_as_options_and_over_http(start: Callable[..., Sandbox]) -> None:
    sandbox = start("--fault", "500, 2x429:0, apply-cut, 200", "--outage", "503", "--seed", "7")
    statuses = [sandbox.call("POST", f"/api/v1/customers/{n}/events", {"name": "x"})[0] for n in range(6)]
    assert statuses == [500, 429, 429, 0, 200, 503]
    assert [person["id"] for person in sandbox.get("/sandbox/people")] == ["3", "4"]
    assert sandbox.call("DELETE", "/sandbox/faults")[0] == 200
    assert sandbox.call("PUT", "/api/v1/customers/5", {})[0] == 200
    status, answer = sandbox.call("PUT", "/sandbox/faults", {"script": "2x500, oops"})
    assert (status, "'oops'" in json.loads(answer)["error"]) == (400, True)
    assert sandbox.call("PUT", "/sandbox/faults", {"unauthorized": True})[0] == 200
    assert sandbox.call("GET", "/auth")[0] == 401


def test_every_fault_option_is_on(start: Callable[..., Sandbox]) -> None:
    some = ["--fail-share", "500=0.05", "--fail-share", "429:2=0.1", "--latency", "1ms", "--rate-limit", "9"]
    found = start(*some, "--retry-after", "3", "--unauthorized", "--wrong-region").get("/sandbox/faults")
    assert found == {
        "script": "",
        "shares": {"500": 0.05, "429:2": 0.1},
        "latency": "1ms",
        "rate_limit": 9,
        "retry_after": 3,
        "outage": "",
        "unauthorized": True,
        "wrong_region": True,
        "seed": None,
        "given": {},
    }


def test_region_credentials_and_webhooks_are_as_asked_for(start: Callable[..., Sandbox]) -> None:
    sandbox = start("--region", "eu", "--webhook-url", "http://127.0.0.1:9/hook", "--signing-key", "k")
    assert sandbox.get("/api/v1/accounts/region")["region"] == "eu"
    assert sandbox.get("/sandbox/webhooks")["url"] == "http://127.0.0.1:9/hook"
    assert any("webhooks go to http://127.0.0.1:9/hook" in line for line in sandbox.said)


def test_what_webhooks_carry_and_what_a_workspace_allows_are_options(start: Callable[..., Sandbox]) -> None:
    sandbox = start("--body-content", "--only-ids", "--object-type-type", "--email-updates-by-id")
    found = sandbox.get("/sandbox/webhooks")
    assert [found[name] for name in ("body_content", "only_ids", "object_type_type")] == [True] * 3
    for email in ("a@b.co", "c@d.co"):
        assert sandbox.call("PUT", "/api/v1/customers/42", {"email": email}) == (200, {})
    assert sandbox.get("/sandbox/people")[0]["email"] == "c@d.co"
    plain = start()
    assert not any(plain.get("/sandbox/webhooks")[name] for name in ("body_content", "only_ids", "object_type_type"))
    for email in ("a@b.co", "c@d.co"):
        assert plain.call("PUT", "/api/v1/customers/42", {"email": email}) == (200, {})
    assert plain.get("/sandbox/people")[0]["email"] == "a@b.co"


async def test_where_webhooks_go_can_be_said_later_and_they_are_signed_with_the_key_of_the_command(
    start: Callable[..., Sandbox],
) -> None:
    sandbox = await asyncio.to_thread(start, "--signing-key", "k")
    async with receiving() as receiver:
        status, found = await asyncio.to_thread(sandbox.call, "PUT", "/sandbox/webhooks", {"url": receiver.url})
        assert (status, found["url"], found["campaign_event"]) == (200, receiver.url, None)
        await asyncio.to_thread(sandbox.call, "PUT", "/api/v1/customers/42", {"unsubscribed": True})
        while not receiver.received:
            await asyncio.sleep(0.01)
    assert [post.is_signed("k") for post in receiver.received] == [True]


def ids_of_a_mix(sandbox: Sandbox) -> set[str]:
    """Of one that waits, because nobody takes it."""
    status, _ = sandbox.call("POST", "/sandbox/webhooks", {"count": 20, "kinds": ["email_sent"]})
    assert status == 202
    while sandbox.get("/sandbox/webhooks")["mixes_under_way"]:
        pass
    return {each["event_id"] for each in sandbox.get("/sandbox/webhooks/queue")}


def test_a_restarted_sandbox_repeats_no_ids_of_webhooks_unless_it_has_a_seed(start: Callable[..., Sandbox]) -> None:
    url = ("--webhook-url", "http://127.0.0.1:9/hook")
    assert not ids_of_a_mix(start(*url)) & ids_of_a_mix(start(*url))
    seeded = ids_of_a_mix(start(*url, "--seed", "7"))
    assert len(seeded) == 20
    assert seeded == ids_of_a_mix(start(*url, "--seed", "7"))


def applied(sandbox: Sandbox) -> list[str]:
    """The items of a batch of twenty events, in the order applied."""
    event = {"type": "person", "action": "event", "identifiers": {"id": "42"}}
    batch = {"batch": [{**event, "name": str(number)} for number in range(20)]}
    assert sandbox.call("POST", "/api/v2/batch", batch) == (200, {})
    return [each["name"] for each in reversed(sandbox.get("/sandbox/activities"))]


def test_the_items_of_a_batch_are_applied_in_order_unless_there_is_a_seed(start: Callable[..., Sandbox]) -> None:
    in_order = [str(number) for number in range(20)]
    assert applied(start()) == in_order
    drawn = applied(start("--seed", "7"))
    assert drawn != in_order
    assert sorted(drawn, key=int) == in_order


async def test_the_set_event_starts_a_mail_whose_minutes_are_over_soon(start: Callable[..., Sandbox]) -> None:
    async with receiving() as receiver:
        options = ("--webhook-url", receiver.url, "--campaign-event", "bought", "--speed", "1000")
        sandbox = await asyncio.to_thread(start, *options)
        await asyncio.to_thread(sandbox.call, "PUT", "/api/v1/customers/42", {"email": "a@b.co"})
        await asyncio.to_thread(sandbox.call, "POST", "/api/v1/customers/42/events", {"name": "bought"})
        while len(receiver.received) < 4:
            await asyncio.sleep(0.01)
    assert [post.json["metric"] for post in receiver.received] == ["sent", "delivered", "opened", "clicked"]


def test_with_a_certificate_it_serves_https(start: Callable[..., Sandbox], tmp_path: Path) -> None:
    authority, pem = trustme.CA(), tmp_path / "certificate.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    url = start("--certificate", str(pem)).url
    assert url.startswith("https://127.0.0.1:")
    with urllib.request.urlopen(f"{url}/sandbox", context=trusting, timeout=20) as answer:
        assert json.loads(answer.read())["people"] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--fault", "500, cutt"], "'cutt'"),
        (["--fail-share", "500"], "'500': write it like"),
        (["--fail-share", "5OO=0.1"], "'5OO'"),
        (["--latency", "soon"], "'soon' is no time"),
        (["--outage", "no"], "'no'"),
        (["--webhook-url", "nowhere"], "'nowhere'"),
        (["--speed", "0"], "factor"),
        (["--certificate", os.devnull], "certificate"),
        (["--state", "/"], "can't be used"),
        (["--host", "192.0.2.1"], "can't listen on 192.0.2.1:0"),
    ],
)
def test_what_cannot_be_used_is_named(options: list[str], said: str) -> None:
    with pytest.raises(errors.Misconfigured) as refusal:
        cli(["sandbox", "--port", "0", *options], standalone_mode=False)
    assert said in str(refusal.value)


def test_a_script_that_cannot_be_read_exits_2() -> None:
    assert "step 2 of the script, 'cutt'" in refused("--fault", "500, cutt")
