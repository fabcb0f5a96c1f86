"""[intake]: keys for servers are secrets, keys for web pages are not, and no key is both."""

from __future__ import annotations

from pathlib import Path

import pytest

from connector import errors, settings_file
from connector.settings import Settings

KEY = "w-1234"


def load(folder: Path, lines: str) -> Settings:
    (folder / ".env").write_text(f"WRITE_KEY={KEY}\n")
    path = folder / "settings.toml"
    path.write_text(f"[intake]\n{lines}\n")
    return settings_file.load(path)


def faults(folder: Path, lines: str) -> list[str]:
    with pytest.raises(errors.Misconfigured) as caught:
        load(folder, lines)
    return [str(fault) for fault in caught.value.faults]


def test_the_intake_is_off_and_open_to_all_pages_by_default() -> None:
    intake = Settings().intake

    assert (intake.write_keys, intake.browser_keys, intake.origins) == ((), (), ("*",))


def test_a_key_of_a_server_is_never_written_out(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, f'write_keys = ["{KEY}"]')

    assert fault.startswith("line 2: intake.write_keys[0]: is secret, so it is not written here")
    assert KEY not in fault


def test_a_key_of_a_page_may_be_written_out_or_be_referred_to(tmp_path: Path) -> None:
    intake = load(tmp_path, 'browser_keys = ["web", "env:WRITE_KEY", ""]').intake

    assert [key.get_secret_value() for key in intake.browser_keys] == ["web", KEY]


def test_a_key_that_can_not_be_found_is_a_fault_and_no_key(tmp_path: Path) -> None:
    assert faults(tmp_path, 'browser_keys = ["env:NOT_SET"]')[0].startswith(
        "line 2: intake.browser_keys[0]: the environ"
    )


def test_no_key_is_secret_and_public(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, f'write_keys = ["env:WRITE_KEY"]\nbrowser_keys = ["web", "{KEY}"]')

    assert fault.startswith("line 3: intake.browser_keys[1]: is one of intake.write_keys too")
    assert KEY not in fault


@pytest.mark.parametrize("origin", ["*", "https://www.example.com", "http://localhost:3000", "chrome-extension://abcd"])
def test_an_origin_is_a_scheme_and_a_host(tmp_path: Path, origin: str) -> None:
    assert load(tmp_path, f'origins = ["{origin}"]').intake.origins == (origin,)


def test_an_origin_is_compared_as_browsers_write_it(tmp_path: Path) -> None:
    assert load(tmp_path, 'origins = ["https://WWW.Example.com"]').intake.origins == ("https://www.example.com",)


@pytest.mark.parametrize("origin", ["www.example.com", "https://www.example.com/", "https://*.example.com", ""])
def test_anything_else_is_no_origin(tmp_path: Path, origin: str) -> None:
    (fault,) = faults(tmp_path, f'origins = ["{origin}"]')

    assert 'must be "*" or origins such as "https://www.example.com"' in fault
