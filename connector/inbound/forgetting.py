"""Raw messages about a person who is being erased: found as the reader finds whom they are about, and emptied.

What can't be read can't be told whose it is: it goes when it has one of the person's identifiers in it, as a word of at
least four characters. It stays in the inbox that they came, so that a repeat is still told from something new.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from connector.core import erased, normalize, tracking_message
from connector.inbound import messages, webhook_readings
from connector.records import Identifier, Message, Reading
from connector.settings import Settings
from connector.store import erasure, inbox, users
from connector.store.database import Database
from connector.store.erasure import Body


class _Unreadable(msgspec.Struct):
    unreadable: bytes


def forget(db: Database, settings: Settings, names: Collection[Identifier]) -> int:
    """Goes through the inbox, in small transactions; returns how many messages were emptied."""
    count, after, last = 0, 0, db.read(erasure.last_message)
    while page := db.read(erasure.messages, after, last):
        after = page[-1].id
        theirs = _about(db, page, settings, names)
        db.write(erasure.empty, theirs)
        count += len(theirs)
    return count


def _about(db: Database, page: Sequence[Body], settings: Settings, names: Collection[Identifier]) -> list[int]:
    named = {body.id: _lookups(body, settings) for body in page}
    known = db.read(users.find, (each for found in named.values() for each in found or ()))
    words = erased.pattern(each.value for each in names)
    theirs = []
    for body in page:
        found = named[body.id]
        if found is not None:
            is_theirs = erased.is_about(found, names, known.__contains__)
        else:
            is_theirs = words is not None and any(words.search(text) for text in _texts(body.body))
        if is_theirs:
            theirs.append(body.id)
    return theirs


def _lookups(body: Body, settings: Settings) -> list[Identifier] | None:
    """Whom the message names, the strongest first; None when it can't be read."""
    if body.source == inbox.INTAKE:
        message = tracking_message.read(body.source_id, body.body, body.received_at)
        return messages.lookups(message) if isinstance(message, Message) else None
    reading = normalize.read(body.source_id, body.body, body.received_at)
    return webhook_readings.lookups(reading, settings) if isinstance(reading, Reading) else None


def _texts(body: bytes) -> Iterable[str]:
    """The message as text, and what the intake wrapped because it was no JSON."""
    yield body.decode(errors="replace")
    try:
        yield msgspec.json.decode(body, type=_Unreadable).unreadable.decode(errors="replace")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
