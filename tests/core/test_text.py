"""Small readings of text."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.core import text
from tests.core.given import values


@pytest.mark.parametrize(
    ("given_text", "address"),
    [
        ("ann@example.com", "ann@example.com"),
        ("  Ann@Example.COM\n", "ann@example.com"),
        ("Ann <Ann@Example.com>", "ann@example.com"),
        ('"Doe, Ann" <ann@example.com>', "ann@example.com"),
        ("Doe, Ann <ann@example.com>", "ann@example.com"),
        ("Ann (at work) <ann@example.com> ", "ann@example.com"),
        ('"ann@home.example" <ann@example.com>', "ann@example.com"),
        ("ann@home.example <ann@example.com>", "ann@example.com"),
        ("<ann@example.com>", "ann@example.com"),
        ("Ann < ann@example.com >", "ann@example.com"),
        ("ann+news@example.com", "ann+news@example.com"),
        ("o'neil@example.com", "o'neil@example.com"),
        ("änn@exämple.com", "änn@exämple.com"),
        ("root@localhost", "root@localhost"),
    ],
)
def test_an_address_is_read_with_and_without_a_name_in_lower_case(given_text: str, address: str) -> None:
    assert text.email_address(given_text) == address


@pytest.mark.parametrize(
    "given_text",
    [
        *(None, 42, True, [], {"email": "a@b.co"}, b"a@b.co"),
        *("", " ", "ann", "@", "@example.com", "ann@", "ann@@example.com", "a@b@c.co", "ann @example.com"),
        *("Ann <>", "Ann <ann>", "ann@example.com, bob@example.com", "ann@example.com,bob@example.com"),
        *("ann@example.com;bob@example.com", "Ann <ann@example.com", "mailto:ann@example.com"),
        pytest.param("(" * 100_000 + "@", id="a hundred thousand open brackets"),
        pytest.param("<" * 100_000 + "@", id="a hundred thousand open angles"),
    ],
)
def test_what_is_not_one_address_is_none(given_text: object) -> None:
    assert text.email_address(given_text) is None


@given(st.text() | st.from_regex(r"[(<\",:;@ a]*@[)>\",:;@ a]*"))
def test_an_address_reads_as_itself(given_text: str) -> None:
    address = text.email_address(given_text)

    if address is not None:
        assert text.email_address(address) == address
        assert text.email_address(f"Name <{address}>") == address


def test_a_nul_is_replaced_wherever_it_stands() -> None:
    given_value = {"a\0": ["\0", {"b": "x\0y"}, 1, None, True], "c": "plain"}

    assert text.without_nul(given_value) == {"a\ufffd": ["\ufffd", {"b": "x\ufffdy"}, 1, None, True], "c": "plain"}
    assert given_value["c"] == "plain"
    assert "a\0" in given_value  # a copy was made


@given(values)
def test_nothing_but_nuls_is_replaced(value: Any) -> None:
    cleaned = text.without_nul(value)

    assert b"\\u0000" not in msgspec.json.encode(cleaned).replace(rb"\\", b"")
    if b"\\u0000" not in msgspec.json.encode(value):
        assert cleaned == value
