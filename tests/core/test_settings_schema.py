"""The JSON Schema of the settings file takes what can be used, and what it refuses can't be."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from connector import settings_file
from connector.errors import Misconfigured
from connector.settings import Settings, json_schema

EXAMPLE = Path(__file__).parents[2] / "settings.example.toml"
SCHEMA = json_schema.schema(json_schema.comments_of(EXAMPLE.read_text()))
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


def takes(text: str) -> bool:
    return bool(VALIDATOR.is_valid(tomllib.loads(text)))


def loads(folder: Path, text: str) -> bool:
    path = folder / "settings.toml"
    path.write_text(text)
    try:
        settings_file.load(path, {"KEY": "k"})
    except Misconfigured:
        return False
    return True


def test_it_is_a_schema_and_json() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_it_takes_the_example() -> None:
    VALIDATOR.validate(tomllib.loads(EXAMPLE.read_text()))


GOOD = [
    "",
    '[people]\ncustomer_id = "email"\nattributes = ["plan", { name = "a.b", as = "c" }, { name = "d", date = true }]',
    '[people]\ncustomer_id = ["id", "email"]',
    '[guard]\nmax_deletes = 0\nmax_creates = "unlimited"\nmax_delete_share = 1',
    '[customerio]\nsite_id = "s"\napi_key = "env:KEY"\nregion = "eu"\nrate_per_second = 0.5',
    '[webhooks]\nsigning_keys = ["env:KEY"]\nurl_key = ""\n[webhooks.names]\n"email.clicked" = "Clicked"',
    '[intake]\nbrowser_keys = ["web-1"]\nwrite_keys = ["env:KEY"]',
    '[store]\nurl = "postgresql://u:p@h/d"\nattempts = "36h"',
    '[store]\nurl = "postgres:///d"\nattempts = "010h"',
    '[store]\nevents = "forever"',
    '[store]\nevents = "400d"',
    '[server]\nhost = "::1"\npublic_url = "https://connector.example.com:8443/a/"',
    '[customerio]\ntrack_url = "http://127.0.0.1:9"',
    '[segments]\n"A" = { everyone = true, internal = true }\n"B" = { none = [{ segment = "A" }] }',
    '[segments]\n"A" = { all = [{ any = [{ attribute = "x", in = ["a", 1, true] }, { attribute = "y", is = 1 }] }] }',
    '[segments]\n"A" = { attribute = "y", within = "3d" }',
    '[segments]\n"A" = { event = "Bought", at_most = 0, within = "30d", where = [{ property = "total", gt = 20 }] }',
    *(f'[segments]\n"A" = {{ attribute = "x", {each} }}' for each in (
        "is = 1", 'is_not = "a"', 'not_in = ["a"]', 'contains = "a"', 'starts_with = "a"', 'ends_with = "a"',
        "exists = true", "gt = 1", "gte = 1.5", "lt = 1", "lte = 1", 'not_within = "1d"', 'within_next = "1d"',
    )),
]  # fmt: skip

BAD = [
    '[people]\ncustomer_id = ""',
    '[people]\ncustomer_id = ["email", ""]',
    '[people]\nsegments = [""]',
    '[events]\nnames = [""]',
    '[events]\npages = [""]',
    '[webhooks]\nignore = [""]',
    '[store]\nindexed_attributes = [""]',
    '[intake]\norigins = [""]',
    '[store]\nevents = "ever"',
    "[store]\nevents = 400",
    '[store]\nurl = ""',
    '[store]\nurl = "mysql://h/d"',
    '[sync]\nevery = "0s"',
    '[segments]\n"A" = { attribute = "y", within = "00d" }',
    '[server]\nhost = ""',
    '[server]\npublic_url = "connector.example.com"',
    '[customerio]\nsite_id = "env:SITE"\napi_key = "env:KEY"\nregion = "eu"',
    "[server]\nport = 70000",
    '[server]\nport = "80"',
    "[server]\nprot = 80",
    "[sevrer]\nport = 80",
    '[sync]\nevery = "5 minutes"',
    "[sync]\nevery = 5",
    '[customerio]\napi_key = "literal"\nsite_id = "s"\nregion = "us"',
    '[customerio]\nregion = "fr"',
    "[customerio]\nrate_per_second = 0",
    '[webhooks]\nsigning_keys = ["literal"]',
    '[webhooks]\nsigning_keys = "env:KEY"',
    '[admin]\ntoken = "literal"',
    '[guard]\nmax_deletes = "none"',
    "[guard]\nmax_deletes = -1",
    "[guard]\nmax_delete_share = 1.5",
    "[people]\ncustomer_id = []",
    '[people]\nattributes = [{ as = "x" }]',
    '[people]\nattributes = [{ name = "x", has = "y" }]',
    '[people]\nattributes = [""]',
    '[segments]\n"A" = { attribute = "x" }',
    '[segments]\n"A" = { attribute = "x", is = 1, gt = 1 }',
    '[segments]\n"A" = { attribute = "x", gt = "1" }',
    '[segments]\n"A" = { attribute = "x", in = [] }',
    '[segments]\n"A" = { attribute = "x", iz = 1 }',
    '[segments]\n"A" = { all = [] }',
    '[segments]\n"A" = { all = [{ everyone = true, internal = true }] }',
    '[segments]\n"A" = { everyone = false }',
    '[segments]\n"A" = { event = "x", at_least = 1, at_most = 2 }',
    '[segments]\n"A" = { event = "x", where = [{ attribute = "x", is = 1 }] }',
    '[segments]\n"A" = { event = "x", at_least = 0 }',
    '[segments]\n"A" = {}',
    '[segments]\n"A" = "everyone"',
]


@pytest.mark.parametrize("text", GOOD)
def test_it_takes_what_can_be_used(tmp_path: Path, text: str) -> None:
    assert takes(text)
    assert loads(tmp_path, text or "# nothing")


@pytest.mark.parametrize("text", BAD)
def test_it_refuses_what_cannot_be_used(tmp_path: Path, text: str) -> None:
    assert not takes(text)
    assert not loads(tmp_path, text)


def leaves(table: dict[str, Any], where: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name, inner in table["properties"].items():
        if inner.get("additionalProperties") is False:
            found += leaves(inner, f"{where}{name}.")
        else:
            found.append((f"{where}{name}", inner))
    return found


def test_every_key_is_told_and_all_but_secrets_have_their_default() -> None:
    assert set(SCHEMA["properties"]) == set(Settings.model_fields)
    for key, told in leaves(SCHEMA):
        assert told.get("description"), key
        assert "null" not in json.dumps(told), key
    without = {key for key, told in leaves(SCHEMA) if "default" not in told}
    secrets = {"admin.token", "store.url", "customerio.api_key", "webhooks.url_key"}
    assert without == secrets | {"customerio.region", "webhooks.names", "segments"}


def test_comments_are_those_above_a_key_or_below_the_header_of_an_empty_table() -> None:
    text = (
        "#:schema ./x.json\n# Head.\n\n# --- A part ---\n\n# Of a.\n[a]\n# One,\n# two.\nb = 1\nc = 2\n[d]\n# Of d.\n"
    )
    assert json_schema.comments_of(text) == {
        ("a",): "Of a.", ("a", "b"): "One,\ntwo.", ("a", "c"): "One,\ntwo.", ("d",): "Of d.",
    }  # fmt: skip
