"""The part of `connector check` that is about the tracking API: its keys, and what could not be taken."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from connector.commands.findings import Line
from connector.inbound.refused import BAD_WRITE_KEY
from connector.settings import Settings
from connector.store import inbox, refusals
from connector.store.database import Database


def check(db: Database, settings: Settings, now: datetime) -> Iterator[Line]:
    """Nothing of a message is printed, only counts."""
    if not settings.intake.write_keys and not settings.intake.browser_keys:
        yield Line("ok", "intake", "off: intake.write_keys is empty, messages of SDKs are answered 503")
        return
    yield Line("ok", "intake", f"SDKs send to {settings.server.public_url or 'server.public_url'}/v1")
    for refusal in db.read(refusals.load):
        if refusal.reason == BAD_WRITE_KEY and now - refusal.last_at <= refusals.QUIET:
            yield Line(
                "warning",
                "intake",
                f"{refusal.count:,} requests came with a wrong write key, the last at "
                f"{refusal.last_at:%Y-%m-%d %H:%M} UTC: compare the key in the SDK with those in [intake]",
            )
    if refused := db.read(inbox.unread_reasons, refused=True):
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in refused.most_common())
        yield Line(
            "warning",
            "intake",
            f"{refused.total():,} messages were refused and their senders told ({reasons}); the code that sends them "
            "has to be mended",
        )
