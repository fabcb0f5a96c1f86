"""Where the store of a settings file is that can't be used otherwise, and what another file would mean in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from connector import errors
from connector.commands import broken_file, terminal


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ('[people]\nsegments = ["Nope"]\n[store]\nurl = "sqlite:///a.db"', "a.db"),
        ('[people\n[store]\nattempts = "1d"\nindexed_attributes = [\n "b",\n]\nurl = "sqlite:///a.db"\n', "a.db"),
        ('[segments]\nurl = { attribute = "url", is = "x" }\n[store]\nurl = "sqlite:///a.db"\n[people\n', "a.db"),
        ('store.url = "sqlite:///a.db"\n[segments]\nurl = { everyone = true\n', "a.db"),
        ('[store\nurl = "sqlite:///a.db"\n', "a.db"),
        ('[store]\nattempts = "1d"\n[segments]\nurl = { everyone = true\n', "connector.db"),
        ("[people\n", "connector.db"),
    ],
)
def test_the_store_is_found_where_the_rest_is_broken(tmp_path: Path, text: str, url: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    found = broken_file.only_its_store(path).store.url.get_secret_value()
    assert found == f"sqlite:///{tmp_path / url}"


def test_a_file_whose_store_cannot_be_told_is_refused_for_all_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('[sevrer]\n[store]\nurl = "env:NOT_SET_ANYWHERE"\n')
    with pytest.raises(errors.Misconfigured, match="2 faults"):
        broken_file.only_its_store(path)
    with pytest.raises(errors.Misconfigured, match="There is no settings file"):
        broken_file.only_its_store(tmp_path / "none.toml")


def test_another_file_means_what_it_would_in_the_place_of_the_present_one(tmp_path: Path) -> None:
    present, new = tmp_path / "settings.toml", tmp_path / "edits" / "new.toml"
    new.parent.mkdir()
    (tmp_path / "token").write_text("here")
    (tmp_path / ".env").write_text("KEY=of the present one\n")
    (new.parent / ".env").write_text("KEY=of its own\n")
    new.write_text(
        '[admin]\ntoken = "file:token"\n[webhooks]\nsigning_keys = ["env:KEY"]\n[store]\nurl = "sqlite:///a.db"\n'
    )
    with pytest.raises(errors.Misconfigured, match="no file of that name"):
        terminal.other_settings(new, present)  # it is the only one
    present.write_text("[people\n")
    settings = terminal.other_settings(new, present)
    assert settings.store.url.get_secret_value() == f"sqlite:///{tmp_path}/a.db"
    assert settings.webhooks.signing_keys[0].get_secret_value() == "of the present one"
    assert settings.admin.token.get_secret_value() == "here"
    new.write_text("[people\n")
    with pytest.raises(errors.Misconfigured, match=r"new\.toml can't be used"):
        terminal.other_settings(new, present)


def test_beside_a_missing_file_the_default_store_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "connector.db").touch()
    found = broken_file.only_its_store(tmp_path / "none.toml").store.url.get_secret_value()
    assert found == f"sqlite:///{tmp_path / 'connector.db'}"
    with pytest.raises(errors.Misconfigured, match="is a folder"):
        broken_file.only_its_store(tmp_path)
