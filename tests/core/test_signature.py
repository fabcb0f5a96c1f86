"""The webhook signature: what it accepts, and that nothing else passes."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from connector.core import signature

KEY = "755781b5e03a973f3405a85474d5a032a60fd56fabaad66039b12eadd83955fa"
TIMESTAMP = "1613063089"
BODY = b'{"event_id":"01E4C4CT6YDC7Y5M7FE1GWWPQJ"}'
# Signed by hand: printf 'v0:%s:%s' "$TIMESTAMP" "$BODY" | openssl dgst -sha256 -hmac "$KEY"
SIGNATURE = "34a19a8930b4e5b7b0f6d01f77fd1c1f6b3319d4bc4919657d8250e0e6eb370c"

# What aiohttp can make of header bytes: bytes that are no UTF-8 come as lone surrogates.
headers = st.text(st.characters(codec="utf-8") | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF))


def test_a_signature_made_elsewhere_is_accepted() -> None:
    assert signature.verify([KEY], TIMESTAMP, SIGNATURE, BODY)
    assert signature.sign(KEY, TIMESTAMP, BODY) == SIGNATURE


def test_the_prefix_that_some_senders_put_before_it_is_accepted() -> None:
    assert signature.verify([KEY], TIMESTAMP, f"v0={SIGNATURE}", BODY)


@pytest.mark.parametrize("keys", [(KEY, "other"), ("other", KEY), ("", KEY), ("a", "b", KEY, "c")])
def test_any_of_several_keys_may_have_made_it(keys: tuple[str, ...]) -> None:
    assert signature.verify(keys, TIMESTAMP, SIGNATURE, BODY)


@pytest.mark.parametrize("timestamp", [None, ""])
def test_without_a_timestamp_nothing_is_accepted(timestamp: str | None) -> None:
    assert not signature.verify([KEY], timestamp, signature.sign(KEY, timestamp or "", BODY), BODY)


@pytest.mark.parametrize("given_signature", [None, "", "v0=", "v0", SIGNATURE[:-1], SIGNATURE + "0", f"v1={SIGNATURE}"])
def test_a_missing_short_or_long_signature_is_refused(given_signature: str | None) -> None:
    assert not signature.verify([KEY], TIMESTAMP, given_signature, BODY)


def test_an_empty_key_verifies_nothing() -> None:
    made_with_no_key = hmac.new(b"", b"v0:" + TIMESTAMP.encode() + b":" + BODY, hashlib.sha256).hexdigest()

    assert not signature.verify([""], TIMESTAMP, made_with_no_key, BODY)
    assert not signature.verify([], TIMESTAMP, made_with_no_key, BODY)


@given(st.binary(min_size=1, max_size=200), st.data())
def test_a_body_with_one_changed_byte_is_refused(body: bytes, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(body) - 1))
    changed = bytearray(body)
    changed[index] ^= data.draw(st.integers(1, 255))
    made = signature.sign(KEY, TIMESTAMP, body)

    assert signature.verify([KEY], TIMESTAMP, made, body)
    assert not signature.verify([KEY], TIMESTAMP, made, bytes(changed))


@given(headers.filter(bool), headers)
def test_another_timestamp_is_refused(signed: str, sent: str) -> None:
    assume(signed != sent)
    made = signature.sign(KEY, signed, BODY)

    assert signature.verify([KEY], signed, made, BODY)
    assert not signature.verify([KEY], sent, made, BODY)


def test_a_timestamp_that_is_not_text_is_not_taken_for_its_replacement() -> None:
    assert not signature.verify([KEY], "\udcff", signature.sign(KEY, "?", BODY), BODY)


@given(st.integers(0, len(KEY) - 1), st.characters(codec="utf-8"))
def test_another_key_is_refused(index: int, character: str) -> None:
    assume(character != KEY[index])
    other = KEY[:index] + character + KEY[index + 1 :]

    assert not signature.verify([other], TIMESTAMP, SIGNATURE, BODY)


@given(st.integers(0, len(SIGNATURE) - 1), st.characters())
def test_another_signature_is_refused(index: int, character: str) -> None:
    assume(character != SIGNATURE[index])

    assert not signature.verify([KEY], TIMESTAMP, SIGNATURE[:index] + character + SIGNATURE[index + 1 :], BODY)


@given(st.text(), st.text(), st.text(), st.binary(max_size=20))
def test_no_header_key_or_body_makes_verifying_fail(
    key: str, timestamp: str, given_signature: str, body: bytes
) -> None:
    assert not signature.verify([key, KEY], timestamp, given_signature, body)


def test_a_key_from_an_environment_that_is_not_text_refuses_but_does_not_fail() -> None:
    assert not signature.verify(["\udcff"], TIMESTAMP, SIGNATURE, BODY)
    assert signature.verify(["\udcff", KEY], TIMESTAMP, SIGNATURE, BODY)
