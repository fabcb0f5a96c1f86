"""What is in force while an edit is held."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from connector.settings import Settings, mixing

WORKSPACE = {"site_id": "site", "api_key": "key", "region": "us"}


def made(**tables: Any) -> Settings:
    return Settings.model_validate({"customerio": WORKSPACE, "webhooks": {"signing_keys": ["k"]}, **tables})


def who(name: str) -> dict[str, Any]:
    return {"segments": {name: {"everyone": True}}, "people": {"segments": [name]}}


def test_who_and_what_is_sent_stays_and_the_rest_comes_from_the_edit() -> None:
    before = made(**who("A"), guard={"max_creates": 1}, events={"names": ["old"]})
    edit = made(
        **who("B"),
        guard={"max_creates": 2},
        events={"names": ["new"]},
        customerio={**WORKSPACE, "api_key": "new key", "rate_per_second": 7},
        log={"level": "debug"},
    )
    mixed = mixing.mixed(before, edit)
    assert mixed.sent_hash() == before.sent_hash()
    assert mixed.whitelist == (0,)
    assert (mixed.people, mixed.events, mixed.guard) == (before.people, before.events, before.guard)
    assert mixed.segments == before.segments
    assert (mixed.customerio, mixed.log) == (edit.customerio, edit.log)


def test_the_key_stays_with_its_workspace() -> None:
    before = made()
    edit = made(customerio={"site_id": "other", "api_key": "its key", "region": "eu", "in_flight": 3})
    mixed = mixing.mixed(before, edit)
    assert mixed.customerio == before.customerio.model_copy(update={"in_flight": 3})
    assert mixed.sent_hash() == before.sent_hash()


def test_what_can_not_go_together_stays_as_it_was() -> None:
    before = made(people={"delete": {"enabled": True}})
    assert mixing.mixed(before, made(webhooks={"signing_keys": []}, log={"level": "debug"})) == before


@pytest.mark.parametrize(
    ("before", "edit", "meant"),
    [("forever", "90d", None), ("400d", "90d", timedelta(days=400)), ("90d", "400d", timedelta(days=400))],
)
def test_events_are_kept_as_long_as_either_says(before: str, edit: str, meant: timedelta | None) -> None:
    def buyers(kept: str) -> dict[str, Any]:
        within = {} if kept == "forever" else {"within": kept}
        return {"segments": {"Buyers": {"event": "Bought", **within}}, "store": {"events": kept}}

    mixed = mixing.mixed(made(**buyers(before)), made(**buyers(edit), log={"level": "debug"}))
    assert (mixed.store.events, mixed.log.level) == (meant, "debug")
    assert mixed.segments == made(**buyers(before)).segments


def test_a_revision_whose_secrets_are_gone_still_says_who_and_what_is_sent() -> None:
    text = """
        customerio = { site_id = "site", api_key = "env:GONE", region = "us" }
        people = { segments = ["A"], delete = { enabled = true, grace = "2h" } }
        segments = { A = { everyone = true } }
        webhooks = { signing_keys = ["env:GONE"] }
    """
    before = mixing.of_text(text)
    assert before is not None
    edit = made(**who("B"))
    mixed = mixing.mixed(before, edit)
    assert mixed.people.segments == ("A",)
    assert mixed.customerio == edit.customerio
    assert mixed.webhooks == edit.webhooks
    elsewhere = made(customerio={**WORKSPACE, "site_id": "other"})
    assert mixing.mixed(before, elsewhere).customerio.site_id == "", "nothing can be sent without the key"


def test_a_revision_without_a_workspace_or_of_another_version_is_told_apart() -> None:
    plain = mixing.of_text('[people]\nrequire_email = false\n[customerio]\nregion = "eu"')
    assert plain is not None
    assert not plain.people.require_email
    assert mixing.of_text("[people]\nwhat_is_this = 1") is None
    assert mixing.of_text("no toml") is None
    assert mixing.of_text("customerio = 1") is None
