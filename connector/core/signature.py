"""Customer.io's webhook signature.

HMAC-SHA256 over `v0:` + timestamp header + `:` + the raw body, keyed with the signing key as UTF-8 text, in
lowercase hex (https://docs.customer.io/api/webhooks/, "securely verify requests"). The age of the timestamp is not
judged: whether a retry is signed afresh is undocumented, a wrong 401 holds the stream back for an hour, and
`event_id` already makes a replay harmless.
"""

from __future__ import annotations

import functools
import hmac
from collections.abc import Iterable


def sign(key: str, timestamp: str, body: bytes) -> str:
    """The signature that Customer.io would send for these bytes."""
    made = _keyed(key).copy()
    made.update(b"v0:" + _bytes(timestamp) + b":")
    made.update(body)
    return made.hexdigest()


def verify(keys: Iterable[str], timestamp: str | None, signature: str | None, body: bytes) -> bool:
    """True when one of the keys made this signature; every key is tried, in constant time."""
    if not timestamp or not signature:
        return False
    given = _bytes(signature.removeprefix("v0="))
    matches = [hmac.compare_digest(sign(key, timestamp, body).encode(), given) for key in keys if key]
    return any(matches)


@functools.lru_cache(maxsize=16)
def _keyed(key: str) -> hmac.HMAC:
    # `hmac.digest` would let go of the interpreter's lock for these few hundred bytes, and wait to get it back.
    return hmac.new(_bytes(key), digestmod="sha256")


def _bytes(text: str) -> bytes:
    # A header or a variable that is no UTF-8 arrives with lone surrogates; no two texts may become the same bytes.
    return text.encode(errors="surrogatepass")
