"""What Customer.io reports of its own accord, in answer to what it was told through the Track API.

    operation -> unsubscribed changed   -> customer.(un)subscribed
              -> preferences changed    -> customer.cio_subscription_preferences_changed
              -> the set event happened -> Mail: sent, delivered, opened, clicked, each in its time

Nothing is remembered of people: what an operation changes is what it finds before and leaves after.

Documented (reference of the reporting webhooks; reserved attributes; importing old data; anonymous events): writing
`unsubscribed` or the preferences through the API reports the change, also to whoever wrote it; an event dated more
than 72 hours back starts no campaign, nor does an anonymous one that is attached to a person more than 72 hours
after its date; the `customer_id` of somebody who was deleted is blank.

Stricter readings of what is unverified:
- `unsubscribed: false` for a person who didn't have the attribute is reported as subscribed; the same value again is
  not reported. Clearing the attribute of an unsubscribed person is reported as subscribed.
- A change of preferences through the API has no delivery, so it carries no ids of one.
- What a merge or a delete does to consent isn't reported.
- The pretend campaign mails nobody who is unsubscribed or has no email when the event comes, and then reports
  nothing. An event that was ignored as repeated starts nothing; one that came without an id leaves
  `trigger_event_id` null. An anonymous event starts a mail when it is attached; what a merge moves starts none.
- A mail that was sent stays that recipient's, under the identifiers of then, whatever becomes of the person; who was
  merged into somebody else is deleted.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import msgspec
import orjson

from connector.sandbox.operations import Edit, Identifier, Identify, Operation, Track
from connector.sandbox.rules.people import Activity, Person, means_unsubscribed
from connector.sandbox.state import State
from connector.sandbox.webhooks import webhook_bodies
from connector.sandbox.webhooks.clock import Clock
from connector.sandbox.webhooks.webhook_bodies import Recipient, Setup, Webhook
from connector.sandbox.webhooks.webhook_kinds import PREFERENCES, Kind

# The life of a mail: seconds after the step before, and what is reported then.
STEPS: tuple[tuple[float, Kind], ...] = (
    (0.0, ("email", "sent")),
    (2.0, ("email", "delivered")),
    (60.0, ("email", "opened")),
    (30.0, ("email", "clicked")),
)

_MAILS_KEPT = 10_000
_TRIGGERS_FOR = 72 * 3600
_ATTRIBUTE = "cio_subscription_preferences"


class _Consent(NamedTuple):
    """`unsubscribed` is None without the attribute; preferences as JSON, so that they compare as they were."""

    unsubscribed: bool | None
    preferences: bytes | None


_UNKNOWN = _Consent(None, None)


@dataclass(frozen=True, slots=True)
class Mail:
    """A delivery of the pretend campaign: who gets it, and when (unix seconds) it came into each of its states.

    `number` counts all mails of the sandbox.
    """

    number: int
    origin: webhook_bodies.Campaign
    recipient: Recipient
    metrics: dict[str, int] = field(default_factory=dict)


class Reactions:
    """Listens to a state and reports. `event` is the name that starts the pretend campaign, None for no campaign.

    `report` takes a webhook; `begin` takes something that goes on for a while and lets it run beside all else.
    `setup` is for what is reported from then on. `mails` has the last 10,000, the newest at the end.
    """

    def __init__(
        self,
        report: Callable[[Webhook], None],
        begin: Callable[[Callable[[], Awaitable[None]]], None],
        *,
        clock: Clock,
        rng: random.Random,
        setup: Setup,
        event: str | None = None,
    ) -> None:
        self.event = event
        self.setup = setup
        self.mails: deque[Mail] = deque(maxlen=_MAILS_KEPT)
        self._mailed = 0
        self._report = report
        self._begin = begin
        self._clock = clock
        self._rng = rng

    def follow(self, state: State) -> None:
        """From now on; what happened before isn't reported."""
        state.listeners.append(partial(self._about_to, state))

    def _about_to(self, state: State, operation: Operation) -> Callable[[], None]:
        """Looks at what was; the function that it returns compares, also after an operation that changed nothing."""
        match operation:
            case Identify() | Edit():
                person = _addressed(state, operation)
                before, did = (_consent(person), len(person.activities)) if person else (_UNKNOWN, 0)
                # Found before it, because an edit can take away the very identifier that it was addressed to.
                return lambda: self._identified(state, person or state.people.find(operation.who), before, did)
            case Track(who=Identifier() as who):
                number = state.activity_number
                return lambda: self._tracked(state, who, number)
        return _nothing

    def _identified(self, state: State, person: Person | None, before: _Consent, did: int) -> None:
        """`did`: how many activities the person had before."""
        if person is None:
            return
        after = _consent(person)
        if after.unsubscribed != before.unsubscribed and (before.unsubscribed or after.unsubscribed is not None):
            self._customer("unsubscribed" if after.unsubscribed else "subscribed", person)
        if after.preferences != before.preferences:
            self._customer(PREFERENCES, person)
        for attached in person.activities[did:]:
            self._did(state, person, attached)

    def _tracked(self, state: State, who: Identifier, last_number: int) -> None:
        person = state.people.find(who)
        if person is None or state.activity_number == last_number:
            return
        if person.activities and person.activities[-1].number == state.activity_number:
            self._did(state, person, person.activities[-1])

    def _did(self, state: State, person: Person, activity: Activity) -> None:
        recent = state.seconds() - activity.timestamp <= _TRIGGERS_FOR
        if activity.type != "event" or activity.name != self.event or not recent:
            return
        if person.unsubscribed or person.email is None:
            return
        self._mailed += 1
        origin = webhook_bodies.Campaign(webhook_bodies.delivery_id(self._rng), trigger_event_id=activity.id)
        mail = Mail(self._mailed, origin, recipient(person))
        self.mails.append(mail)
        self._begin(partial(self._live, state, mail))

    def _customer(self, metric: str, person: Person) -> None:
        preferences = person.attributes.get(_ATTRIBUTE)
        preferences = preferences if isinstance(preferences, dict) else {}
        self._report(self._webhook(("customer", metric), recipient(person), preferences=preferences))

    async def _live(self, state: State, mail: Mail) -> None:
        """The life of a mail."""
        about = mail.recipient
        for seconds, kind in STEPS:
            if seconds:
                await self._clock.sleep(seconds)
            if state.people.find(Identifier("cio_id", about.cio_id)) is None:
                about = msgspec.structs.replace(about, deleted=True)
            webhook = self._webhook(kind, about, origin=mail.origin)
            mail.metrics[kind[1]] = webhook.timestamp
            self._report(webhook)

    def _webhook(self, kind: Kind, about: Recipient, **more: Any) -> Webhook:
        now = int(self._clock.now())
        event_id = webhook_bodies.ulid(self._rng, now)
        return webhook_bodies.webhook(kind, about, event_id=event_id, timestamp=now, setup=self.setup, **more)


def recipient(person: Person) -> Recipient:
    """A person without a phone still gets text messages, at a pretend number."""
    phone = person.identifiers.get("phone", webhook_bodies.PRETEND_PHONE)
    return Recipient(person.id, person.email, person.cio_id, phone)


def _nothing() -> None:
    """After an operation that starts no report."""


def _addressed(state: State, operation: Identify | Edit) -> Person | None:
    """Who is there for it to change, found as `identifying` does: by what it names, else by what it sets."""
    person = state.people.find(operation.who)
    if person is not None or isinstance(operation, Edit):
        return person
    sets = (Identifier(kind, value) for kind, value in operation.sets.items() if value is not None)
    return next((person for each in sets if (person := state.people.find(each))), None)


def _consent(person: Person) -> _Consent:
    attributes = person.attributes
    preferences = attributes.get(_ATTRIBUTE)
    return _Consent(
        means_unsubscribed(attributes["unsubscribed"]) if "unsubscribed" in attributes else None,
        None if preferences is None else orjson.dumps(preferences, option=orjson.OPT_SORT_KEYS),
    )
