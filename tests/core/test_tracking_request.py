"""Requests of the tracking API, taken apart: bodies of every form, and batches with something bad in them."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.core import tracking_message, tracking_request
from connector.core.tracking_request import Parsed
from connector.records import Message
from tests.core.given import NOW, values

PLAIN = b'{"type":"track","userId":"42","event":"Clicked","messageId":"m-1"}'


def batch(*messages: bytes, more: bytes = b"") -> bytes:
    return b'{"batch":[' + b",".join(messages) + b"]" + more + b"}"


def parsed(body: bytes) -> Parsed:
    found = tracking_request.parsed(body, None)
    assert isinstance(found, Parsed), found
    return found


def reasons(body: bytes) -> list[str | None]:
    return [item.reason for item in tracking_request.items(parsed(body), NOW)]


@pytest.mark.parametrize("encoding", ["", "gzip", "identity", "deflate", "br"])
@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress, lambda body: body], ids=["gzip", "zlib", "plain"])
def test_a_body_is_inflated_by_what_it_is_and_not_by_its_header(compress: Any, encoding: str) -> None:
    assert tracking_request.inflated(compress(PLAIN), encoding) == PLAIN


def test_raw_deflate_is_told_by_its_header() -> None:
    raw = zlib.compress(PLAIN)[2:-4]

    assert tracking_request.inflated(raw, "Deflate ") == PLAIN
    assert tracking_request.inflated(raw) == raw
    assert tracking_request.inflated(b"", "deflate") == b""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (gzip.compress(PLAIN, mtime=0)[:-9], "bad_gzip"),
        (gzip.compress(PLAIN, mtime=0)[:-1], "bad_gzip"),
        (gzip.compress(PLAIN, mtime=0) + b"x", "bad_gzip"),
        (b"\x1f\x8bnot gzip", "bad_gzip"),
        (gzip.compress(gzip.compress(PLAIN), mtime=0), "nested_gzip"),
        (gzip.compress(b" " * (4 * 1024 * 1024 + 1), mtime=0), "too_large"),
        (b" " * (4 * 1024 * 1024 + 1), "too_large"),
    ],
    ids=range(7),
)
def test_a_body_that_can_not_be_inflated_has_its_reason(body: bytes, reason: str) -> None:
    assert tracking_request.inflated(body, "gzip") == reason


def test_a_body_of_4_mib_is_taken() -> None:
    body = b" " * (4 * 1024 * 1024)

    assert tracking_request.inflated(gzip.compress(body, mtime=0)) == body


def test_a_batch_is_cut_into_its_messages() -> None:
    body = batch(PLAIN, b' {"a": [1, 2]} ', b"7", more=b',"sentAt":"2026-01-02","context":{"ip":1},"writeKey":"k"')

    for written in (body, b"\xef\xbb\xbf " + body + b"\n"):
        assert parsed(written) == Parsed((PLAIN, b'{"a": [1, 2]}', b"7"), None, b'"2026-01-02"', b'{"ip":1}')
        assert tracking_request.write_key(written) == "k"


def test_a_batch_may_be_empty() -> None:
    assert parsed(b'{"batch":[]}') == parsed(b'{"batch":[],"context":null}') == Parsed(())
    assert parsed(b'{"batch":[ ],"x":NaN}') == Parsed(())


BROKEN = {
    b'{"type":"track","userId":"42","event":"e","properties":{"a":NaN}}': "not_a_number",
    b'{"type":"track","userId":"42","event":"\\ud800"}': "bad_text",
    b'{"type":"track","userId":"42","event":"\xff"}': "bad_text",
    b"[" * 100_000 + b"]" * 100_000: "too_large",
    b"[" * 9000 + b"]" * 9000: "too_deep",
    b'{"a" 1}': "not_json",
    b"{]": "not_json",
    b"": "not_json",
    b"[]": "wrong_shape",
    b"null": "wrong_shape",
}


@pytest.mark.parametrize(("broken", "reason"), BROKEN.items(), ids=range(len(BROKEN)))
def test_a_bad_message_does_not_hurt_its_neighbours(broken: bytes, reason: str) -> None:
    more = b',"sentAt":"2026-01-02" , "context" : {"a":"]}\\"[{"}'
    found = parsed(batch(PLAIN, broken, b' {"a": "}],[\\\\"} ', PLAIN, more=more))
    items = tracking_request.items(found, NOW)

    assert [item.reason for item in items] == [None, reason, "no_type", None]
    assert (found.sent_at, found.context) == (b'"2026-01-02"', b'{"a":"]}\\"[{"}')
    assert items[0] == items[3]


def test_all_that_can_be_bad_in_one_batch_is_named() -> None:
    assert reasons(batch(*BROKEN, PLAIN)) == [*BROKEN.values(), None]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"NaN", "not_json"),
        (b"[]", "wrong_shape"),
        (b'"x"', "wrong_shape"),
        (b"{}", "wrong_shape"),
        (b'{"batch":{}}', "wrong_shape"),
        (b'{"batch":NaN}', "wrong_shape"),
        (b'{"a":NaN}', "wrong_shape"),
        (b'{"batch":[NaN}', "not_json"),
        (b'{"batch":[NaN]', "not_json"),
        (b'{"batch":[NaN]]}', "not_json"),
        (b'{"batch":[NaN]}}', "not_json"),
        (b'{"batch":[NaN]} {}', "not_json"),
        (b'{"batch":[NaN],}', "not_json"),
        (b'{"batch" [NaN]}', "not_json"),
        (b'{batch:[NaN]}', "not_json"),
        (b'{"batch":[NaN', "not_json"),
        (b'{"batch":["', "not_json"),
        (b'{"batch":["\\', "not_json"),
        (b'{"\\ud800":1,"batch":[]}', "not_json"),
        (batch(b"0", more=b',"context":NaN'), "not_a_number"),
        (batch(b"0", more=b',"context":{"a":"\xff"}'), "bad_text"),
        (batch(b"0", more=b',"context":{"a":"' + b"x" * 32 * 1024 + b'"}'), "too_large"),
        (batch(*[b"0"] * 600, more=b',"context":{"a":"' + b"x" * 30 * 1024 + b'"}'), "too_large"),
        (batch(*[b"0"] * 20_001), "too_many"),
        (batch(*[b"NaN"] * 20_001), "too_many"),
    ],
    ids=range(27),
)  # fmt: skip
def test_an_unreadable_batch_has_its_reason(body: bytes, reason: str) -> None:
    assert tracking_request.parsed(body, None) == reason


def test_a_context_that_is_no_object_is_the_fault_of_each_message() -> None:
    assert reasons(batch(PLAIN, more=b',"context":[]')) == ["wrong_shape"]


@pytest.mark.parametrize("sent_at", [b'"' + b"x" * 200 + b'"', b'"\xff"', b"NaN"])
def test_a_sending_time_that_nobody_can_read_is_left_out(sent_at: bytes) -> None:
    found = parsed(batch(PLAIN, more=b',"sentAt":' + sent_at))

    assert (found.messages, found.sent_at) == ((PLAIN,), None)


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b'{"writeKey":"k","event":"e"}', "k"),
        (b'\xef\xbb\xbf{"writeKey":"k"}', "k"),
        (b'{"event":NaN,"writeKey" : "k"}', "k"),
        (b'{"event":NaN,"writeKey":"k\\"\\u00fc"}', 'k"ü'),
        (b'{"event":NaN,"writeKey":"k', None),
        (b'{"event":NaN}', None),
        (b'{"event":"e"}', None),
        (b'{"writeKey":7}', None),
        (b"[]", None),
        (b"[" * 100_000, None),
    ],
)
def test_the_key_is_found_also_where_the_rest_is_broken(body: bytes, key: str | None) -> None:
    assert tracking_request.write_key(body) == key


@pytest.mark.parametrize(
    "message", [b'"writeKey":"s3cret"', b'"writeKey":"s3cret","a":NaN', b'"a":"\xff","writeKey" :"s3cret']
)
def test_a_key_is_never_kept(message: bytes) -> None:
    request = tracking_request.parsed(b'{"type":"track","userId":"42","event":"e",' + message + b"}", "track")
    assert isinstance(request, Parsed)
    (item,) = tracking_request.items(request, NOW)

    kept = json.loads(item.body)
    assert "s3cret" not in json.dumps(kept)
    assert b"s3cret" not in base64.b64decode(kept.get("unreadable", ""))


def test_a_key_goes_from_a_message_that_nothing_can_write_again() -> None:
    deep = b'{"writeKey":"s3cret","a":' + b"[" * 9000 + b"]" * 9000 + b"}"
    (item,) = tracking_request.items(Parsed((deep,)), NOW)

    assert item.reason == "too_deep"
    assert b"s3cret" not in base64.b64decode(json.loads(item.body)["unreadable"])


def test_a_single_message_is_what_its_path_says() -> None:
    request = tracking_request.parsed(b' {"userId":"42","name":"Home"}\n', "page")

    assert request == Parsed((b'{"userId":"42","name":"Home"}',), "page")
    (item,) = tracking_request.items(request, NOW)
    assert item.body == b'{"message":{"userId":"42","name":"Home"},"type":"page"}'


def test_what_is_said_beside_a_message_is_kept_with_it() -> None:
    request = Parsed((PLAIN,), None, b'"2026-01-02"', b'{"ip":1}')
    (item,) = tracking_request.items(request, NOW, public=True, imported=True)

    beside = b',"sentAt":"2026-01-02","context":{"ip":1},"public":true,"imported":true}'
    assert item == ("m-1", b'{"message":' + PLAIN + beside, None)


def test_no_message_can_say_that_it_came_with_another_key() -> None:
    sly = PLAIN + b',"public":false,"x":{}'
    request = tracking_request.parsed(sly, "track")
    assert isinstance(request, Parsed)
    (item,) = tracking_request.items(request, NOW, public=True)

    assert item.reason == "not_json"
    assert json.loads(item.body).keys() == {"unreadable", "type", "public"}


@pytest.mark.parametrize(
    ("message_id", "source_id"),
    [("m-1", "m-1"), ("x" * 200, "x" * 200), (7, "7"), (7.5, "7.5")],
)
def test_a_message_goes_by_its_own_id(message_id: Any, source_id: str) -> None:
    message = json.dumps({"type": "track", "userId": "42", "event": "e", "messageId": message_id}).encode()

    assert tracking_request.items(Parsed((message,)), NOW)[0].source_id == source_id


@pytest.mark.parametrize("message_id", [None, "", "x" * 201, "a\nb", "a\0", True, ["m"], {}])
def test_a_message_without_a_usable_id_goes_by_its_content(message_id: Any) -> None:
    def source_id(**more: Any) -> str:
        message = {"messageId": message_id, "userId": "42", "event": "e", "type": "track", **more}
        return tracking_request.items(Parsed((json.dumps(message).encode(),)), NOW)[0].source_id

    assert source_id().startswith("sha256:")
    assert source_id() == source_id(sentAt="2026-01-02") == source_id(writeKey="k")
    assert source_id() != source_id(event="f")


def test_the_order_of_keys_does_not_make_another_message() -> None:
    one = b'{"type":"track","userId":"42","event":"e","properties":{"a":1,"b":2}}'
    other = b'{"event":"e","properties":{"b":2, "a":1},"userId":"42","type":"track"}'
    items = tracking_request.items(Parsed((one, other)), NOW)

    assert items[0].source_id == items[1].source_id


def test_a_bad_message_goes_by_its_content_so_that_a_mended_one_is_taken() -> None:
    bad = b'{"type":"track","userId":"42","messageId":"m-1"}'
    items = tracking_request.items(Parsed((bad, PLAIN, bad)), NOW)

    assert items[0].source_id.startswith("bad:")
    assert (items[0].source_id, items[1].source_id) == (items[2].source_id, "m-1")


def test_the_same_content_on_another_path_is_another_message() -> None:
    message = b'{"userId":"42","event":"e"}'
    ids = {tracking_request.items(Parsed((message,), kind), NOW)[0].source_id for kind in ("track", "page", "group")}

    assert len(ids) == 3


@given(
    st.binary() | st.binary().map(lambda tail: b'{"batch":[' + tail) | st.binary().map(lambda one: batch(one, PLAIN))
)
def test_no_bytes_make_taking_apart_fail(body: bytes) -> None:
    assert isinstance(tracking_request.inflated(body, "deflate"), bytes | str)
    tracking_request.write_key(body)
    for request in (tracking_request.parsed(body, None), tracking_request.parsed(body, "track")):
        if isinstance(request, Parsed):
            for item in tracking_request.items(request, NOW, public=True):
                assert json.loads(item.body)["public"] is True


@given(st.lists(values | st.fixed_dictionaries({"type": st.just("track"), "event": st.just("e"), "userId": values})))
def test_both_ways_of_cutting_find_the_same_messages(messages: list[Any]) -> None:
    written = json.dumps({"batch": messages}, ensure_ascii=False).encode()
    broken = written[:-1] + b',"x":NaN}'

    assert [json.loads(one) for one in parsed(broken).messages] == messages
    assert tracking_request.items(parsed(written), NOW) == tracking_request.items(parsed(broken), NOW)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), values))
def test_what_is_kept_is_read_as_it_was_checked(more: dict[str, Any]) -> None:
    message = json.dumps({**more, "type": "track", "userId": "42", "event": "e"}).encode()
    (item,) = tracking_request.items(Parsed((message,)), NOW)
    found = tracking_message.read(item.source_id, item.body, NOW)

    assert isinstance(found, Message) == (item.reason is None)
