"""The settings that are in force while an edit is held: who and what is sent as before, the rest as the edit says.
Events, which segments count, are kept as long as either says.
"""

from __future__ import annotations

import secrets
import tomllib
from datetime import timedelta
from typing import Any

from pydantic import SecretStr, ValidationError

from connector.settings import Customerio, Settings

# Whole tables; of `customerio` only where it leads.
_WHO_AND_WHAT = ("people", "events", "guard", "segments")
_WHERE = ("site_id", "region", "track_url")
_UNKNOWN = SecretStr(secrets.token_hex())  # nobody can guess what stands in for a key


def mixed(before: Settings, edit: Settings) -> Settings:
    """Who and what `before` says is sent, and where; the rest of the `edit`. What can't go together is `before` as it
    is: deletion goes on only where opt-outs are learnt."""
    kept = {name: getattr(before, name) for name in _WHO_AND_WHAT}
    store = edit.store.model_copy(update={"events": _longer(before.store.events, edit.store.events)})
    try:
        return Settings.model_validate({**dict(edit), **kept, "store": store, "customerio": _customerio(before, edit)})
    except ValidationError:
        return before


def of_text(text: str) -> Settings | None:
    """Who and what is sent by the text of a revision whose secrets may be gone by now: they are unknown here, and so is
    everything else. None where another version of the connector has written it."""
    try:
        raw = tomllib.loads(text)
        where = {key: raw.get("customerio", {})[key] for key in _WHERE if key in raw.get("customerio", {})}
        kept: dict[str, Any] = {name: raw[name] for name in _WHO_AND_WHAT if name in raw}
        customerio = {**where, "api_key": _UNKNOWN} if where.get("site_id") else where
        return Settings.model_validate({**kept, "customerio": customerio, "webhooks": {"url_key": _UNKNOWN}})
    except (ValueError, TypeError, AttributeError):
        return None


def _longer(one: timedelta | None, other: timedelta | None) -> timedelta | None:
    """None is forever."""
    return None if one is None or other is None else max(one, other)


def _customerio(before: Settings, edit: Settings) -> Customerio:
    """The edit's pace and way, and the key that belongs to the workspace."""
    old, new = before.customerio, edit.customerio
    if all(getattr(old, key) == getattr(new, key) for key in _WHERE):
        return new
    if old.api_key == _UNKNOWN:
        return Customerio()  # nothing can be sent there
    kept = {key: getattr(old, key) for key in (*_WHERE, "api_key")}
    return new.model_copy(update=kept)
