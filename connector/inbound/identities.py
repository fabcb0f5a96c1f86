"""Who is who, for a batch of messages or rows that are taken in order.

    load -> for each: settle (find, make, merge, name) -> write

A user is found by the strongest identifier that is given: external_id, then email (compared without case), then
anonymous_id. Whoever has an external_id is found through a weaker one only when nothing stronger is given. Then, for
each other identifier that is given:

    nobody has it                                    it names the user from now on
    an anonymous user has it                         that user is merged into this one, events included
    it is the email of a user without external_id    likewise: the same person, who had left no more than an address
    a known user has it                              both stay as they are, and the conflict is noted

What comes with a key that stands in web pages (`trusted=False`) can do less, because anybody can send it: by an email
it neither reaches nor merges anybody who has an external_id, nor changes theirs. An anonymous id it may add: that is
how what a visitor did before they signed in becomes theirs.

Everything here expects `database.lock_identities` to be held from `load` to the end of the transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection
from ulid import ULID

from connector.core import learnt, mapping, merge
from connector.records import CustomerId, Identifier, User
from connector.settings import Settings
from connector.store import conflicts, due_events, merging, pending, users

FRESH = timedelta(hours=1)


class Said(NamedTuple):
    """Who a message or a row says it is about: its identifiers, the strongest first, and the email in the letters in
    which it was given."""

    names: tuple[Identifier, ...]
    email: str | None
    trusted: bool


def said(external_id: str | None, email: str | None, anonymous_id: str | None, *, trusted: bool = True) -> Said:
    """What is None or empty is not said."""
    names = []
    if external_id:
        names.append(Identifier("external_id", external_id))
    if email:
        names.append(Identifier("email", email.lower()))
    if anonymous_id:
        names.append(Identifier("anonymous_id", anonymous_id))
    return Said(tuple(names), email, trusted)


@dataclass
class Draft:
    """A user as the batch leaves them. `fresh_until` is None for who came in another way than by the intake."""

    id: str
    external_id: str | None = None
    email: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None
    known_by: str = "own"
    fresh_until: datetime | None = None
    first_seen_at: datetime | None = None
    is_new: bool = False
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """Whom `Said` means: the user (None: nobody yet), who becomes the same, and identifiers that are another's."""

    draft: Draft | None
    same: tuple[Draft, ...]
    taken: tuple[Identifier, ...]


class Identities:
    """The users whom a batch is about. What it changes is in the store after `write`."""

    def __init__(self, known: dict[Identifier, str], drafts: dict[str, Draft]) -> None:
        self._known = known
        self._drafts = drafts
        self._named: dict[Identifier, str] = {}
        self._freed: dict[Identifier, str] = {}
        self._merged: dict[str, str] = {}
        self._conflicts: list[conflicts.Conflict] = []

    @classmethod
    def load(cls, connection: Connection, whole: Iterable[Identifier], alone: Iterable[Identifier] = ()) -> Identities:
        """Looks the identifiers up; of `alone` only whose they are, of `whole` these users too."""
        wanted = set(whole)
        known = users.find(connection, [*wanted, *alone])
        users.lock(connection, known.values())  # they are written as they are read here
        loaded = users.load(connection, sorted({known[each] for each in wanted if each in known}))
        # SQL may have deleted a user and left what named them: it names nobody.
        orphans = {each: known.pop(each) for each in wanted if each in known and known[each] not in loaded}
        found = cls(known, {user_id: draft_of(user) for user_id, user in loaded.items()})
        found._freed |= orphans
        return found

    def owner(self, identifier: Identifier) -> str | None:
        """The user whom it names by now."""
        user_id = self._known.get(identifier)
        return None if user_id is None else self.survivor(user_id)

    def survivor(self, user_id: str) -> str:
        """Who this user is by now, after the merges of the batch."""
        while user_id in self._merged:
            user_id = self._merged[user_id]
        return user_id

    @property
    def users(self) -> set[str]:
        """Everybody who was loaded or made."""
        return set(self._drafts)

    def draft(self, user_id: str) -> Draft | None:
        """The user as the batch leaves them so far; None for one who was not loaded."""
        return self._drafts.get(user_id)

    def find(self, said: Said) -> Found:
        """Looks only."""
        names = said.names
        owners = [self._owner_draft(each) for each in names]
        target = None
        for index, (each, owner) in enumerate(zip(names, owners, strict=True)):
            if owner is not None and _means(owner, each, names[:index], trusted=said.trusted):
                target = owner
                break
        same: list[Draft] = []
        taken = []
        for each, owner in zip(names, owners, strict=True):
            if owner is None or owner is target or owner in same:
                continue
            if _is_same(owner, each, target, trusted=said.trusted):
                same.append(owner)
            else:
                taken.append(each)
        return Found(target, tuple(same), tuple(taken))

    def settle(self, said: Said, found: Found, at: datetime) -> Draft:
        """The user whom `found` is, made when there is none, with the others merged and the new identifiers named.

        Conflicts are noted as of `at`.
        """
        draft = found.draft or self.make(at)
        refused = list(found.taken)
        keeps_email = draft.external_id is not None and not said.trusted
        if keeps_email:
            refused += [each for each in said.names if each.kind == "email" and self.owner(each) != draft.id]
        for one in found.same:
            self.merge(one, draft)
        for each in said.names:
            if each in refused:
                self.conflict(draft, each, at)
                continue
            if each.kind == "external_id" and draft.external_id is None:
                draft.external_id, draft.changed = each.value, True
            elif each.kind == "email" and not keeps_email:
                self._change_email(draft, str(said.email))
            if self.owner(each) is None:
                self.name(each, draft.id)
                draft.changed = True
        if draft.known_by != "own":
            draft.known_by, draft.changed = "own", True
        return draft

    def conflict(self, draft: Draft, identifier: Identifier, at: datetime) -> None:
        """This was given for the user, and does not become theirs."""
        self._conflicts.append(conflicts.Conflict(draft.id, identifier, at))

    def make(self, at: datetime, known_by: str = "own") -> Draft:
        """A new user, whom nothing names yet."""
        draft = Draft(str(ULID()), known_by=known_by, first_seen_at=at, is_new=True, changed=True)
        self._drafts[draft.id] = draft
        return draft

    def name(self, identifier: Identifier, user_id: str) -> None:
        """The identifier names this user, unless it names one already."""
        if identifier not in self._known:
            self._known[identifier] = user_id
            self._named[identifier] = user_id

    def named_lately(self, kind: str) -> set[str]:
        """Users whom the batch gave an identifier of this kind, each as they were before any merge."""
        return {user_id for each, user_id in self._named.items() if each.kind == kind}

    def merge(self, loser: Draft, survivor: Draft) -> None:
        """The one turns out to be the other, whose own values win."""
        survivor.attributes = merge.attributes(loser.attributes, survivor.attributes)
        survivor.external_id = survivor.external_id or loser.external_id
        survivor.email = survivor.email or loser.email
        survivor.created_at = survivor.created_at or loser.created_at
        if loser.known_by == "own":
            survivor.known_by = "own"
        survivor.changed = True
        loser.changed = False
        self._merged[loser.id] = survivor.id

    def free_email(self, draft: Draft) -> None:
        """Their address names nobody now, so that someone else can come with it."""
        if draft.email is None:
            return
        email = Identifier("email", draft.email.lower())
        # One that nobody has asked for was not looked up, and is theirs.
        if self.owner(email) in (draft.id, None):
            self._known.pop(email, None)
            if self._named.pop(email, None) is None:
                self._freed[email] = draft.id
        draft.email = None

    def write(self, connection: Connection, settings: Settings | None, now: datetime) -> None:
        """Users, identifiers, merges, conflicts, and who is due because of them; without `settings`, nobody is due who
        has only just come."""
        changed = [draft for draft in self._drafts.values() if draft.changed and draft.id not in self._merged]
        new = [draft for draft in changed if draft.is_new]
        old = [draft for draft in changed if not draft.is_new]
        merged = {loser: self.survivor(loser) for loser in self._merged if not self._drafts[loser].is_new}
        users.add(connection, [_row(draft, now) for draft in new], [])
        _merge_learnt(connection, merged, now)
        merging.merge(connection, merged, now)
        users.forget(connection, [(each, self.survivor(owner)) for each, owner in self._freed.items()])
        users.add(connection, [], [(each, self.survivor(owner)) for each, owner in self._named.items()])
        users.change(connection, [_values(draft) for draft in old], now)
        noted = [each.of(self.survivor(each.user_id)) for each in self._conflicts]
        conflicts.note(connection, [each for each in noted if self.owner(each.identifier) != each.user_id])
        pending.mark_mirrored(connection, list({*(draft.id for draft in old), *merged.values()}), now)
        due_events.mark(connection, due_events.having(connection, sorted({*merged.values()})), now)
        if settings is not None:
            entering = [draft.id for draft in changed if _enters_now(draft, settings, now)]
            pending.arrived(connection, entering, now)

    def _owner_draft(self, identifier: Identifier) -> Draft | None:
        user_id = self.owner(identifier)
        return None if user_id is None else self._drafts[user_id]

    def _change_email(self, draft: Draft, given: str) -> None:
        if draft.email == given:
            return
        if draft.email is not None and draft.email.lower() != given.lower():
            self.free_email(draft)
        draft.email = given
        draft.changed = True


def _merge_learnt(connection: Connection, merged: Mapping[str, str], now: datetime) -> None:
    """Opt-outs, preferences and facts of the merged. Who is known to Customer.io by an id of their own, and here only
    by an address, may be somebody else who shares it: they opt nobody in."""
    if not merged:
        return
    known = users.learnt(connection, sorted({*merged, *merged.values()}))
    with_ids = users.named_by(connection, merged, ["customer_id"])
    heirs = {survivor: known[survivor] for survivor in merged.values()}
    for loser, survivor in merged.items():
        heirs[survivor] = learnt.merged(heirs[survivor], known[loser], consent=loser not in with_ids)
    users.remember(connection, {each: heir for each, heir in heirs.items() if heir != known[each]}, now)


def _means(owner: Draft, by: Identifier, stronger: Sequence[Identifier], *, trusted: bool) -> bool:
    """Whether what names this user, and things that are stronger and name nobody, mean the user."""
    if owner.external_id is not None and (stronger or (by.kind == "email" and not trusted)):
        return False
    return not (owner.email is not None and any(each.kind == "email" for each in stronger))


def _is_same(owner: Draft, by: Identifier, target: Draft | None, *, trusted: bool) -> bool:
    """Whether the owner of a weaker identifier is the one who was found by a stronger one."""
    if target is None or owner.external_id is not None:
        return False
    if by.kind == "email":
        return trusted or target.external_id is None
    return owner.email is None


def _enters_now(draft: Draft, settings: Settings, now: datetime) -> bool:
    """Someone who came by the intake just now: no need to wait for the pass, if they can be sent at all."""
    if draft.fresh_until is None or draft.fresh_until <= now or not settings.people.segments:
        return False
    if settings.people.require_email and draft.email is None:
        return False
    return isinstance(mapping.customer_id(_user(draft), settings), CustomerId)


def _user(draft: Draft) -> User:
    return User(
        draft.id,
        draft.external_id,
        draft.email,
        draft.attributes,
        draft.known_by,
        draft.created_at,
        opted_out=False,
        opt_changed_at=None,
        version=1,
    )


def draft_of(user: User) -> Draft:
    """The user as they are stored."""
    return Draft(
        user.id,
        user.external_id,
        user.email,
        dict(user.attributes),
        user.created_at,
        user.known_by,
        user.fresh_until,
    )


def _values(draft: Draft) -> dict[str, Any]:
    return {
        "id": draft.id,
        "external_id": draft.external_id,
        "email": draft.email,
        "attributes": draft.attributes,
        "known_by": draft.known_by,
        "created_at": draft.created_at,
        "fresh_until": draft.fresh_until,
    }


def _row(draft: Draft, now: datetime) -> dict[str, Any]:
    return _values(draft) | {
        "first_seen_at": draft.first_seen_at,
        "updated_at": now,
        "opted_out": False,
        "opt_changed_at": None,
        "version": 1,
    }
