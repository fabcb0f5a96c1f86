"""Which events are sent: the whitelist of `[events]`, asked when an event is read."""

from __future__ import annotations

from connector.settings import Events


def wanted(type_: str, name: str, url: str | None, events: Events) -> bool:
    """Whether the settings want this event sent. `type_` is `page`, `screen` or any other, which is no view; `url` is a
    page's (`activity.page_url`), None where it has none: only a pattern for all pages takes that one.

    Views are named by their type alone: no pattern of names takes one, and no event is one for its name.
    """
    match type_:
        case "page":
            return "page" in events.names and (not events.pages or events.paged.take(url or ""))
        case "screen":
            return "screen" in events.names
        case _:
            return events.named.take(name.strip())
