"""Which events the whitelist of `[events]` wants, and how it may be written."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connector.core import selection
from connector.settings import Events

CHECKOUT = "https://shop.example.com/checkout/basket?utm_source=mail"
PRICING = "https://shop.example.com/pricing"


def events(*names: str, **keys: Any) -> Events:
    return Events.model_validate({"names": list(names), **keys})


def wanted(name: str, *names: str, type_: str = "track") -> bool:
    return selection.wanted(type_, name, None, events(*names))


def page_wanted(url: str | None, *pages: str) -> bool:
    return selection.wanted("page", "Home", url, events("page", pages=list(pages)))


@pytest.mark.parametrize("type_", ["track", "page", "screen", "whatever SQL wrote"])
def test_nothing_is_wanted_unless_it_is_named(type_: str) -> None:
    assert not selection.wanted(type_, "Order Completed", PRICING, Events())
    assert not selection.wanted(type_, "Order Completed", PRICING, events("Order", "Completed", "order completed"))


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("Order Completed", "Order Completed", True),
        ("Order Completed", "Order Completed ", True),
        ("Order Completed", "order completed", False),
        ("Order Completed", "Order Completed Twice", False),
        ("Order *", "Order Completed", True),
        ("Order *", "Order ", False),
        ("Order*", "Order ", True),
        ("Order *", "Re-Order Completed", False),
        ("* Completed", "Order Completed", True),
        ("* Completed", "Order Completed again", False),
        ("O*C*d", "Order Completed", True),
        ("O*C*d", "Order Declined", False),
        ("O*der Com*", "Order Completed", True),
        ("ab*ba", "aba", False),
        ("ab*ba", "abba", True),
        ("a**b", "ab", True),
        ("*", "Order Completed", True),
        ("*", "Order\nCompleted", True),
        ("Order?", "Orders", False),
        ("[O]rder *", "Order Completed", False),
        ("Order.*", "Order.Completed", True),
        ("Order.*", "Orders", False),
    ],
)
def test_an_event_is_wanted_by_its_name_or_by_a_pattern_of_it(pattern: str, name: str, expected: bool) -> None:
    assert wanted(name, pattern) is expected
    assert wanted(name, "other", pattern, "More *") is expected
    assert wanted(name, pattern, type_="whatever SQL wrote") is expected


def test_views_are_wanted_by_their_type_alone() -> None:
    for view, other in (("page", "screen"), ("screen", "page")):
        assert wanted("Order Completed", view, type_=view)
        assert not wanted(view, "*", "Order Completed", other, type_=view)
        assert not wanted(view, view)
    assert wanted("page", "*")


@pytest.mark.parametrize(
    ("pattern", "url", "expected"),
    [
        (PRICING, PRICING, True),
        (PRICING, f"{PRICING}?a=b", False),
        (f"{PRICING}*", f"{PRICING}?a=b#c", True),
        (f"{PRICING}*", "http://shop.example.com/pricing", False),
        ("shop.example.com/pricing*", PRICING, True),
        ("shop.example.com/pricing*", "http://shop.example.com/pricing/team", True),
        ("shop.example.com/pricing*", "shop.example.com/pricing", True),
        ("shop.example.com/pricing*", "https://www.shop.example.com/pricing", False),
        ("shop.example.com/pricing*", f"https://evil.example/{PRICING}", False),
        ("shop.example.com/r?to=https://a.example/*", "https://shop.example.com/r?to=https://a.example/x", True),
        ("*.example.com/pricing", PRICING, True),
        ("*://shop.example.com/pricing", PRICING, True),
        ("http*://shop.example.com/pricing", PRICING, True),
        ("*/checkout/*", CHECKOUT, True),
        ("*/checkout/*", PRICING, False),
        ("*utm_source=*", CHECKOUT, True),
        ("/checkout/*", CHECKOUT, True),
        ("/checkout/*", "/checkout/basket", True),
        ("/checkout/*", "https://shop.example.com/en/checkout/basket", False),
        ("/checkout/*", "https://shop.example.com?to=/checkout/basket", False),
        ("/pricing", "https://shop.example.com:8443/pricing", True),
        ("/pricing", "app://local/pricing", True),
        ("https://Shop.example.com/Pricing", PRICING, True),
        ("*", PRICING, True),
        ("*", None, True),
        ("/*", None, False),
        ("*/*", None, False),
    ],
)
def test_a_page_is_wanted_when_a_pattern_is_about_its_url(pattern: str, url: str | None, expected: bool) -> None:
    assert page_wanted(url, pattern) is expected
    assert page_wanted(url, "https://other.example/", pattern) is expected


def test_all_pages_are_wanted_where_no_pattern_is_given() -> None:
    assert page_wanted(PRICING)
    assert page_wanted(None)


def test_patterns_of_pages_want_no_page_by_themselves_and_are_about_nothing_else() -> None:
    only_pages = events("screen", "A", pages=["*"])

    assert not selection.wanted("page", "Home", PRICING, only_pages)
    assert selection.wanted("screen", "Home", None, only_pages)
    assert selection.wanted("track", "A", None, events("A", pages=["/pricing"]))


texts = st.text("ab*.\n", max_size=8)


def takes(pattern: str, text: str) -> bool:
    """What a pattern means, said in another way: every way to fill its stars is tried."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return takes(pattern[1:], text) or (bool(text) and takes(pattern, text[1:]))
    return text[:1] == pattern[0] and takes(pattern[1:], text[1:])


@given(texts.map(str.strip).filter(lambda pattern: pattern.isprintable() and bool(pattern)), texts.map(str.strip))
def test_a_star_is_any_text_and_all_else_is_itself(pattern: str, text: str) -> None:
    assert wanted(text, pattern) is takes(pattern, text)
    assert page_wanted(text, "*" + pattern) is takes("*" + pattern, text)


def test_no_text_takes_long_however_many_stars_a_pattern_has() -> None:
    began = time.perf_counter()

    assert not wanted("a" * 30_000, "*a" * 40 + "*b")
    assert not page_wanted("a" * 30_000, "*a" * 40 + "*b")
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("key", ["names", "pages"])
@pytest.mark.parametrize(
    ("given_patterns", "message"),
    [
        ([""], "must be"),
        (["a", " \t"], "without line breaks"),
        (["a\nb"], "without line breaks"),
        (["a", "b", "a"], "listed twice"),
        (["a", " a "], "listed twice"),
        ([7], "string"),
        ("a", "tuple"),
    ],
)
def test_other_patterns_are_refused(key: str, given_patterns: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Events.model_validate({key: given_patterns})


def test_blanks_around_a_name_are_not_part_of_it() -> None:
    assert events(" Order Completed ").names == ("Order Completed",)
