"""What an edit changes, in words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from connector.settings import Settings, difference, secret_places

OLD: dict[str, Any] = {
    "customerio": {"site_id": "site", "api_key": "canary-1", "region": "us"},
    "admin": {"token": "canary-2"},
    "store": {"url": "postgresql://u:canary-3@h/d"},
    "webhooks": {"signing_keys": ["canary-4"], "url_key": "canary-5", "names": {"email.clicked": "Clicked"}},
    "intake": {"write_keys": ["canary-6"], "browser_keys": ["canary-7"]},
    "people": {"segments": ["Pro"], "attributes": ["plan", {"name": "account.name", "as": "company"}]},
    "segments": {"Pro": {"attribute": "plan", "is": "pro"}, "Big one": {"attribute": "seats", "gte": 50}},
}


def edited(**tables: Any) -> Settings:
    """The settings above with other keys in their tables; a value that isn't a table replaces it."""
    merged = {name: OLD.get(name, {}) | more for name, more in tables.items()}
    return Settings.model_validate(OLD | merged)


def told(**tables: Any) -> list[str]:
    return difference.words(difference.changes(Settings.model_validate(OLD), edited(**tables)))


COMPANY = '{ name = "account.name", as = "company" }'
PRO = '{ attribute = "plan", is = "pro" }'
SENT = " (changes who or what is sent)"


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"sync": {"every": "10m"}}, 'sync.every: "5m" -> "10m"'),
        ({"log": {"personal_data": True}}, "log.personal_data: false -> true"),
        ({"customerio": {"region": "eu"}}, f'customerio.region: "us" -> "eu"{SENT}'),
        ({"store": {"url": OLD["store"]["url"], "events": "60d"}}, 'store.events: "forever" -> "60d"'),
        ({"guard": {"max_deletes": 5}}, f'guard.max_deletes: "unlimited" -> 5{SENT}'),
        ({"guard": {"max_delete_share": 0.5}}, f"guard.max_delete_share: 0.05 -> 0.5{SENT}"),
        ({"server": {"port": 9}}, "server.port: 8080 -> 9 (after a restart)"),
        ({"people": {"delete": {"enabled": True}}}, f"people.delete.enabled: false -> true{SENT}"),
        ({"people": {"customer_id": ["id", "email"]}}, f'people.customer_id: ["external_id"] -> ["id", "email"]{SENT}'),
        (
            {"people": {"attributes": [{"name": "trialEnds", "date": True}]}},
            f'people.attributes: ["plan", {COMPANY}] -> [{{ name = "trialEnds", date = true }}]{SENT}',
        ),
        (
            {"segments": {"Pro": {"attribute": "plan", "in": ["pro", "team"], "internal": True}}},
            f'segments.Pro: {PRO} -> {{ attribute = "plan", in = ["pro", "team"], internal = true }}{SENT}',
        ),
        (
            {"segments": {'Seen "it"': {"attribute": "at", "within": "24h"}}},
            f'segments."Seen \\"it\\"": not set -> {{ attribute = "at", within = "1d" }}{SENT}',
        ),
        ({"segments": {"Pro": {"attribute": "plan", "is": "x" * 500}}}, "…"),
        (
            {"webhooks": {"names": {"email.clicked": "Email Clicked"}}},
            'webhooks.names."email.clicked": "Clicked" -> "Email Clicked"',
        ),
        ({"webhooks": {"names": {}}}, 'webhooks.names."email.clicked": "Clicked" -> not set'),
        ({"customerio": {"api_key": "canary-8"}}, "customerio.api_key: changed"),
        ({"webhooks": {"signing_keys": []}}, "webhooks.signing_keys: changed"),
        ({"intake": {"write_keys": ["canary-6", "canary-9"]}}, "intake.write_keys: changed"),
        ({"store": {"url": "sqlite:///a.db"}}, "store.url: changed (after a restart)"),
    ],
)
def test_a_change_is_told_with_its_key_both_values_and_when_it_takes_effect(tables: dict[str, Any], words: str) -> None:
    (line,) = told(**tables)
    assert line == words or (words == "…" and "…" in line and len(line) < 700)


def test_a_long_list_is_told_by_what_went_and_what_came() -> None:
    names = [f"Event number {number}" for number in range(20)]
    old = edited(events={"names": names})
    new = edited(events={"names": [*names[:5], *names[6:], "Another"]})
    (line,) = difference.words(difference.changes(old, new))
    assert line == f'events.names: - "Event number 5", + "Another"{SENT}'


def test_a_long_list_in_another_order_is_told_whole() -> None:
    names = [f"Event number {number}" for number in range(12)]
    (line,) = difference.words(
        difference.changes(edited(events={"names": names}), edited(events={"names": names[::-1]}))
    )
    assert line.startswith('events.names: ["Event number 0", ')
    assert "…" in line


def test_segments_in_another_order_are_a_change() -> None:
    segments = dict(reversed(OLD["segments"].items()))
    (line,) = difference.words(
        difference.changes(Settings.model_validate(OLD), Settings.model_validate(OLD | {"segments": segments}))
    )
    assert line == f'segments: ["Pro", "Big one"] -> ["Big one", "Pro"]{SENT}'


def test_segments_in_another_order_are_a_change_also_where_others_came_and_went() -> None:
    small = {"attribute": "seats", "lt": 5}
    old = Settings.model_validate(OLD | {"segments": {"Gone": small, **OLD["segments"]}})
    new = Settings.model_validate(OLD | {"segments": dict(reversed(({"Small": small} | OLD["segments"]).items()))})
    lines = difference.words(difference.changes(old, new))
    assert [line.partition(":")[0] for line in lines] == ["segments.Gone", "segments.Small", "segments"]
    assert lines[2] == f'segments: ["Pro", "Big one"] -> ["Big one", "Pro"]{SENT}'


def test_the_public_url_is_asked_for_anew_each_time() -> None:
    assert told(server={"public_url": "https://a.example"}) == ['server.public_url: "" -> "https://a.example"']


def test_a_number_and_a_truth_are_not_the_same_condition() -> None:
    (line,) = difference.words(
        difference.changes(
            edited(segments={"Pro": {"attribute": "plan", "is": 1}}),
            edited(segments={"Pro": {"attribute": "plan", "is": True}}),
        )
    )
    assert "is = 1 } -> { " in line


def test_equal_settings_have_no_difference() -> None:
    assert told() == []


def test_what_is_sent_comes_first_and_what_waits_for_a_restart_last() -> None:
    lines = told(server={"port": 9}, sync={"every": "10m"}, guard={"max_creates": 5})
    assert [line.partition(":")[0] for line in lines] == ["guard.max_creates", "sync.every", "server.port"]


OTHER: dict[str, Any] = {
    "customerio.site_id": "other", "customerio.region": "eu", "customerio.api": "single",
    "admin.host": "::1", "server.host": "::1", "people.customer_id": ["email"], "people.segments": ["Big one"],
    "people.attributes": ["plan"], "people.timezone": "Europe/Paris", "log.level": "debug", "log.format": "json",
    "webhooks.names": {}, "webhooks.ignore": ["*.drafted"], "store.indexed_attributes": ["plan"],
    "intake.origins": ["https://a.example"], "guard.max_delete_share": 0.5, "store.url": "sqlite:///b.db",
    "store.events": "77d",
}  # fmt: skip


def keys() -> list[str]:
    found = []

    def walk(table: type[BaseModel], where: str) -> None:
        for name, field in table.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                walk(inner, f"{where}{name}.")
            elif name != "segments" or where:
                found.append(f"{where}{name}")

    walk(Settings, "")
    return found


def other(key: str) -> Any:
    """Another value than `OLD` has, or the default is."""
    if key in OTHER:
        return OTHER[key]
    table: Any = Settings.model_validate(OLD)
    *tables, name = key.split(".")
    for each in tables:
        table = getattr(table, each)
    value = getattr(table, name)
    kind = type(value).__name__
    by_kind = {"bool": not value, "int": 77, "float": 7.5, "NoneType": 7, "timedelta": "77s", "SecretStr": "canary-x"}
    if kind in by_kind:
        return by_kind[kind]
    is_secret = any(place[:2] == tuple(key.split(".")) for place in secret_places.PLACES)
    return (
        (["canary-x"] if is_secret else ["a*"]) if kind == "tuple" else ("https://x.example" if "url" in key else "a")
    )


@pytest.mark.parametrize("key", keys())
def test_it_says_of_every_key_whether_it_changes_what_is_sent_and_shows_no_secret(key: str) -> None:
    table, *rest = key.split(".")
    more: Any = other(key)
    for name in reversed(rest):
        more = {name: more}
    old, new = Settings.model_validate(OLD), edited(**{table: more})
    (change,) = difference.changes(old, new)
    assert change.key.startswith(key)
    assert change.sends == (old.sent_hash() != new.sent_hash())
    assert "canary" not in f"{change} {change!r}"
    assert change.secret == any(place[:2] == (table, *rest) for place in secret_places.PLACES)


def test_no_password_of_a_store_stays_in_a_text() -> None:
    text = '[store]\nurl = "postgres://u:p%40ss@h/d" # postgres://u:p%40ss@h/d\n'
    kept = secret_places.shareable(text)
    assert kept == '[store]\nurl = "postgres://u:***@h/d" # postgres://u:***@h/d\n'
    assert secret_places.with_password_of(kept, text) == text
    assert secret_places.with_password_of(kept, text.replace("@h", "@other")) is None
    assert secret_places.with_password_of(kept, "not toml") is None


@pytest.mark.parametrize(
    "text",
    ["", "[sync]\n", '[store]\nurl = "sqlite:///a.db"\n', '[store]\nurl = "env:DATABASE_URL"\n',
     '[intake]\nbrowser_keys = ["web-1"]\nwrite_keys = ["env:A", "file:b"]\n', '[admin]\ntoken = ""\n',
     '[store]\nurl = "postgresql://u@h/d"\n'],
)  # fmt: skip
def test_a_text_without_a_secret_is_kept_as_it_is(text: str) -> None:
    assert secret_places.shareable(text) == text
    assert secret_places.with_password_of(text, "[store") == text


@pytest.mark.parametrize("text", ["[store]\nurl = 5\n", "store = 5\n[admin]\ntoken = 'x'\n", "a = ["])
def test_a_text_in_which_a_secret_may_stand_is_not_kept(text: str) -> None:
    assert secret_places.shareable(text) is None
