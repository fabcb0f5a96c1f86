"""`connector init`: from an empty folder to settings that can be used."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from connector import settings_file
from tests.places import Place, Process
from tests.sandbox_process import Sandbox


@pytest.fixture(scope="module")
def customerio() -> Iterator[Sandbox]:
    """A workspace that lives in the EU."""
    sandbox = Sandbox("--region", "eu", "--site-id", "site-1", "--api-key", "canary-key-1")
    yield sandbox
    sandbox.kill()


@pytest.fixture
def empty(tmp_path: Path) -> Place:
    return Place(tmp_path, "sqlite:///connector.db")


def options(customerio: Sandbox, **more: str) -> list[str]:
    given = {"site-id": "site-1", "api-key": "canary-key-1", "region": "eu", "track-url": customerio.url, **more}
    return [part for name, value in given.items() if value for part in (f"--{name}", value)]


def untouched(place: Place) -> bool:
    return list(place.folder.iterdir()) == []


def test_it_writes_settings_that_can_be_used_and_the_secret_beside_them(empty: Place, customerio: Sandbox) -> None:
    shown = empty.run("init", *options(customerio))
    assert "http://127.0.0.1:8080/webhooks/customerio" in shown
    assert "connector run" in shown
    assert "canary" not in shown + empty.path.read_text()
    env = empty.folder / ".env"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    loaded = settings_file.load(empty.path, {})
    assert loaded.customerio.api_key.get_secret_value() == "canary-key-1"
    assert (loaded.customerio.region, loaded.customerio.track_url) == ("eu", customerio.url)
    assert "accepts the credentials, region eu" in empty.run("check")
    assert "0 users" in empty.run("status")


def test_the_connector_runs_from_there_and_the_shown_lines_are_right(empty: Place, customerio: Sandbox) -> None:
    empty.run("init", *options(customerio), "--public-url", "https://a.example/")
    text = empty.path.read_text()
    for line in (
        '# signing_keys = ["env:CUSTOMERIO_SIGNING_KEY"]',
        *(each for each in text.splitlines() if "= {" in each),
    ):
        text = text.replace(line, line.removeprefix("# "))
    text = text.replace(
        'public_url = "https://a.example"', 'public_url = "https://a.example"\nport = 0\n[admin]\nport = 0'
    )
    empty.path.write_text(text + '[log]\nformat = "json"\n')
    with (empty.folder / ".env").open("a") as file:
        file.write("CUSTOMERIO_SIGNING_KEY=k\n")
    assert len(settings_file.load(empty.path, {}).segments) == 2
    with Process(empty) as process:
        assert process.terminate() == 0


def test_as_data_it_says_where_everything_is(empty: Place, customerio: Sandbox) -> None:
    told = json.loads(empty.run("init", *options(customerio), "--public-url", "https://a.example/", "--json"))
    assert told == {
        "settings": str(empty.path),
        "env": str(empty.folder / ".env"),
        "region": "eu",
        "webhook_url": "https://a.example/webhooks/customerio",
    }


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        ({"region": "us"}, 1, "the workspace lives in eu, not in us: say --region eu"),
        ({"api-key": "another"}, 1, "refuses the credentials"),
        ({"site-id": "another"}, 1, "refuses the credentials"),
        ({"track-url": "http://127.0.0.1:9"}, 1, "can't be reached (unreachable)"),
        ({"track-url": "no url"}, 2, "track_url must be a URL"),
        ({"public-url": "a.example"}, 2, "public_url must be a URL"),
        ({"site-id": "env:SITE"}, 2, "site_id is no secret"),
        ({"api-key": "canary with blanks"}, 2, "can't be a Track API key"),
        ({"api-key": ""}, 2, "--api-key is needed"),
        ({"site-id": ""}, 2, "--site-id is needed"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_written(
    empty: Place, customerio: Sandbox, more: dict[str, str], status: int, words: str
) -> None:
    shown = empty.run("init", *options(customerio, **more), exit_status=status)
    assert words in shown
    assert "canary" not in shown
    assert untouched(empty)


@pytest.mark.parametrize("name", ["settings.toml", ".env"])
def test_nothing_that_is_there_is_overwritten(empty: Place, customerio: Sandbox, name: str) -> None:
    (empty.folder / name).write_text("# mine\n")
    shown = empty.run("init", *options(customerio), exit_status=2)
    assert f"{name} is there already and stays as it is" in shown
    assert [(each.name, each.read_text()) for each in empty.folder.iterdir()] == [(name, "# mine\n")]


def echo_is_off(terminal: int) -> None:
    """Waits until what is typed is not shown."""
    until = time.monotonic() + 30
    while termios.tcgetattr(terminal)[3] & termios.ECHO:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_what_is_not_given_is_asked_for_and_the_key_stays_hidden(empty: Place, customerio: Sandbox) -> None:
    terminal, theirs = pty.openpty()
    command = [sys.executable, "-m", "connector", "--settings", str(empty.path), "init", "--track-url", customerio.url]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    shown = ""
    answers = [("Site id", "site-1\n"), ("hidden", "canary-key-1\n"), ("next:", "")]
    for question, answer in answers:
        while question not in shown:
            shown += os.read(terminal, 4096).decode()
        if question == "hidden":
            echo_is_off(terminal)  # what is typed before is thrown away with it
        os.write(terminal, answer.encode())
    assert process.wait(30) == 0
    os.close(terminal)
    assert "the workspace lives in eu" in shown
    assert "canary" not in shown
    assert settings_file.load(empty.path, {}).customerio.region == "eu"
