"""What tracking SDKs send, recorded from the SDKs themselves, and beside it how that has to be read.

Two files a request, in `tests/tracking_payloads/`. `<library>.<call>.json` has the request line, the headers that
matter, and the body as text (or in base64 where it is compressed). `<library>.<call>.expected.json` lists what its
messages say, written from the calls that were made and never by running the reader. Each library was told the same:

    page Docs / Install, identify 42 (ann@example.com, plan pro, created on 1 January 2020), track Order Completed
    (total 9.5), screen Shop / Basket (items 2), group acme (name Acme), alias 42 (anon-1 before)

under the key `server-key` or, in a web page, `web-key`. What stands after `~` is special about a request. A new library
is a few more files here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAYLOADS = Path(__file__).parent / "tracking_payloads"
SERVER_KEY, WEB_KEY = "server-key", "web-key"
_EXPECTED = ".expected.json"


@dataclass(frozen=True)
class Case:
    """One recorded request: `path` with its query, and the messages that have to come of it."""

    name: str
    path: str
    headers: dict[str, str]
    body: bytes
    messages: list[dict[str, Any]]


def cases() -> Iterator[Case]:
    """By name."""
    for path in sorted(PAYLOADS.iterdir()):
        if path.name.endswith(_EXPECTED):
            continue
        request = json.loads(path.read_text())
        body = base64.b64decode(request["body_base64"]) if "body_base64" in request else request["body"].encode()
        expected = path.with_name(path.name.removesuffix(".json") + _EXPECTED)
        yield Case(
            path.name.removesuffix(".json"),
            request["request"].removeprefix("POST "),
            request["headers"],
            body,
            json.loads(expected.read_text()),
        )
