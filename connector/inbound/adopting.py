"""Users whom plain SQL wrote, or changed, get the identifiers that follow from their external_id and email.

    store/nameless (who lacks one) -> for each identifier: name, merge or conflict -> write, in small transactions

Without it the intake would make a second user of them. What the writer keeps in step is left alone. Who is who is
decided as for every message (`identities`), but the row that was written is the one that stays:

    nobody has it                                     it names the user from now on
    external_id of another row, the user has none yet one user, whom we had met before the row was written
    email of a user without external_id               likewise, who had left no more than an address
    a known user has it                               both stay as they are, and the conflict is noted
    it was an erased person's                         it names nobody, and the row is not sent (`decide`: erased)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy.engine import Connection

from connector.inbound import due, identities
from connector.inbound.identities import Identities
from connector.records import Identifier, User
from connector.settings import Settings
from connector.store import database, kept_out, nameless, pending, users
from connector.store.database import Database


def everything(db: Database, settings: Settings, clock: Callable[[], datetime]) -> None:
    """All that plain SQL has written since the last look: users, and then the events that it asks to have sent. And all
    events that wait for what the settings don't say any more."""
    adopt(db, clock)
    due.read_asked(db, settings, clock)
    due.look_again(db, settings, clock)


def adopt(db: Database, clock: Callable[[], datetime]) -> int:
    """Goes through the whole store; returns for how many users there was something to look at."""
    count = 0
    with db.reader.begin() as connection:
        for user_ids in nameless.found(connection):
            db.write(_adopt, user_ids, clock())
            count += len(user_ids)
    return count


def _adopt(connection: Connection, user_ids: Sequence[str], now: datetime) -> None:
    database.lock_identities(connection)
    users.lock(connection, user_ids)
    rows = users.load(connection, user_ids)
    wanted = {each.id: _names(each) for each in rows.values() if each.merged_into is None}
    gone = kept_out.among(connection, {name for names in wanted.values() for name in names})
    wanted = {user_id: [] if gone.intersection(names) else names for user_id, names in wanted.items()}
    known = users.find(connection, [name for names in wanted.values() for name in names])
    users.lock(connection, known.values())
    drafts = {
        each.id: identities.draft_of(each)
        for each in [*users.load(connection, sorted(set(known.values()))).values(), *rows.values()]
    }
    so_far = nameless.named_so_far(connection, user_ids)
    with_ids = {owner for name, owner in so_far if name.kind == "external_id"}
    who = Identities(known, drafts)
    moved = set()
    for user_id, names in wanted.items():
        for name in names:
            owner = who.owner(name)
            if who.survivor(user_id) != user_id or owner == user_id:
                continue  # they were merged a moment ago, or the database knows lower case less well than we do
            if owner is None:
                who.name(name, user_id)
            elif drafts[owner].external_id is None or (name.kind == "external_id" and user_id not in with_ids):
                who.merge(drafts[owner], drafts[user_id])
            else:
                who.conflict(drafts[user_id], name, now)
                continue
            if name.kind == "email":
                moved.add(user_id)
    # An address that they had before names nobody now, so that someone else can come with it.
    users.forget(connection, [(name, owner) for name, owner in so_far if name.kind == "email" and owner in moved])
    pending.lock(connection, who.users)
    who.write(connection, None, now)


def _names(user: User) -> list[Identifier]:
    names = identities.said(user.external_id, user.email, None).names
    return [each for each in names if len(each.value) <= nameless.LONGEST]
