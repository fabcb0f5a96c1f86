"""Rows of messages: of the Segment spec, one a line, read as the intake reads them and kept as it keeps them."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from connector.commands.rows import Bad, Shape
from connector.core import tracking_request
from connector.records import Received


def read(line: bytes, now: datetime, _zone: ZoneInfo) -> Received | Bad:
    """The message as the inbox takes it, or why not. Its id is that of a live one, so none is taken twice."""
    (item,) = tracking_request.items(tracking_request.Parsed((line,)), now, imported=True)
    if item.reason is not None:
        return Bad(item.reason, "this is no message that the intake would take")
    return Received(item.source_id, now, item.body)


SHAPE = Shape(what="messages", plain=(), groups=(), open=True, needed=(), read=read, whole=True)
