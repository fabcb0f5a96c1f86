"""What a batch of raw messages comes to: who is who, what happened, and what is known of whom. Written at its end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy.engine import Connection

from connector.core import learnt
from connector.inbound import due
from connector.inbound.identities import Identities
from connector.records import Event, Word
from connector.settings import Settings
from connector.store import due_events, events, pending, users


@dataclass
class Batch:
    """Events in arrival order, and words by user; whose they are is said when they are written, after all merges."""

    identities: Identities
    with_ids: set[str]  # of the users whose email a webhook names, those whom an id names too
    lives: Mapping[str, datetime | None] = field(
        default_factory=dict
    )  # of the users who may get a cio_id: mirror.lives
    events: list[Event] = field(default_factory=list)
    words: defaultdict[str, list[Word]] = field(default_factory=lambda: defaultdict(list))
    reachable: list[str] = field(default_factory=list)  # users whose cio_id is new: they can be given another id now

    def write(self, connection: Connection, settings: Settings, now: datetime) -> None:
        """Everything, in the caller's transaction."""
        doubtful = self._doubtful(connection)
        due_of = {self.identities.survivor(user_id) for user_id in due.users_of(self.events)}
        # What is written below locks some of them, and then others: a worker could wait for us, and we for it.
        pending.lock(connection, {*due_of, *self.identities.users, *self.words, *self.reachable})
        self.identities.write(connection, settings, now)
        events.add(connection, [self._placed(event) for event in self.events])
        due_events.mark(connection, due_of, now)
        said = {
            user_id: [*map(learnt.without_consent, words)] if user_id in doubtful else words
            for user_id, words in self.words.items()
        }
        learn(connection, self.identities, said, now)
        pending.mark_mirrored(connection, list({self.identities.survivor(each) for each in self.reachable}), now)

    def _doubtful(self, connection: Connection) -> set[str]:
        """Of those whom the batch heard of and then merged, whoever Customer.io knows by an id of their own: they may
        be somebody else, as in every merge, and opt nobody in."""
        merged = [user_id for user_id in self.words if self.identities.survivor(user_id) != user_id]
        if not merged:
            return set()
        return users.named_by(connection, merged, ["customer_id"]) | self.identities.named_lately("customer_id")

    def _placed(self, event: Event) -> Event:
        if event.user_id is None:
            return event
        user_id = self.identities.survivor(event.user_id)
        return event if user_id == event.user_id else replace(event, user_id=user_id)


def learn(connection: Connection, who: Identities, said: Mapping[str, Sequence[Word]], now: datetime) -> None:
    """What was said of each user. Another word on the opt-out is due at once; facts and preferences make nobody due: no
    attribute is sent of them, and the next pass sees who is in another segment now."""
    words: defaultdict[str, list[Word]] = defaultdict(list)
    for user_id, of_one in said.items():
        words[who.survivor(user_id)] += of_one
    if not words:
        return
    known = users.learnt(connection, list(words))
    after = {user_id: learnt.learn(before, words[user_id]) for user_id, before in known.items()}
    users.remember(connection, {user_id: each for user_id, each in after.items() if each != known[user_id]}, now)
    opted = [
        user_id
        for user_id, each in after.items()
        if (each.opted_out, each.opt_changed_at) != (known[user_id].opted_out, known[user_id].opt_changed_at)
    ]
    if opted:
        users.touch(connection, opted)
        pending.mark_mirrored(connection, opted, now, pending.AT_ONCE)
