"""What to do about each reason for which the gate is closed. A test proves that every reason has its words."""

from __future__ import annotations

from connector.store.gate import Closed

_BY_ITSELF = "it opens by itself once a call is taken"

REMEDIES = {
    "unauthorized": "customerio.site_id and customerio.api_key must be of one row of the Tracking API keys; once the "
    "settings are saved, they are tried at once",
    "redirected": "the account lives in another region: change customerio.region",
    "wrong_address": "something answers there that isn't Customer.io: check customerio.track_url, and any proxy",
    "all_refused": f"whatever is sent is refused; `connector export attempts` says in which words; {_BY_ITSELF}",
    "other_region": "the account lives in another region: change customerio.region",
    "other_workspace": "use another store.url for this workspace, or the credentials of the one that the store "
    "belongs to",
    "unreachable": f"check the network, the name server and customerio.track_url; {_BY_ITSELF}",
    "server_errors": f"Customer.io's servers fail: {_BY_ITSELF}",
}


def fault(closed: Closed) -> str:
    """A line for `check`."""
    words = f"closed since {closed.since:%Y-%m-%d %H:%M} UTC, nothing is sent: {closed.reason} ({closed.message})"
    return f"{words}: {remedy(closed.reason)}"


def remedy(reason: str) -> str:
    """What to do; a newer version may have closed it for a reason that this one doesn't know."""
    return REMEDIES.get(reason, _BY_ITSELF)
