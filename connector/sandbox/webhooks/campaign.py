"""What Customer.io reports of its own accord, in answer to what it was told through the Track API.

    operation -> unsubscribed changed   -> customer.(un)subscribed
              -> preferences changed    -> customer.cio_subscription_preferences_changed
              -> the set event happened -> email sent, delivered, opened, clicked, each in its time

Documented (reference of the reporting webhooks; reserved attributes; importing old data): writing `unsubscribed` or
the preferences through the API reports the change, also to whoever wrote it; an event dated more than 72 hours back
starts no campaign.

Stricter readings of what is unverified:
- `unsubscribed: false` for a person who didn't have the attribute is reported as subscribed; the same value again is
  not reported. Clearing the attribute of an unsubscribed person is reported as subscribed.
- A change of preferences through the API has no delivery, so it carries no ids of one.
- What a merge or a delete does to consent isn't reported.
- The pretend campaign mails nobody who is unsubscribed or has no email, and then reports nothing. An event that was
  ignored as repeated starts nothing; one that came without an id leaves `trigger_event_id` null.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

import orjson

from connector.sandbox.operations import Edit, Identify, Operation, Track
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

_TRIGGERS_FOR = 72 * 3600
_ATTRIBUTE = "cio_subscription_preferences"


class _Consent(NamedTuple):
    """`unsubscribed` is None without the attribute; preferences as JSON, so that they compare as they were."""

    unsubscribed: bool | None
    preferences: bytes | None


_UNKNOWN = _Consent(None, None)


class Reactions:
    """Listens to a state and reports. `event` is the name that starts the pretend campaign, None for no campaign.

    `report` takes a webhook; `begin` takes something that goes on for a while and lets it run beside all else.
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
        self._report = report
        self._begin = begin
        self._clock = clock
        self._rng = rng
        self._setup = setup
        self._known: dict[str, _Consent] = {}
        self._last_number = 0

    def follow(self, state: State) -> None:
        """From now on; what happened before isn't reported."""
        self._known = {person.cio_id: _consent(person) for person in state.people}
        self._last_number = state.activity_number
        state.listeners.append(partial(self._applied, state))

    def _applied(self, state: State, operation: Operation) -> None:
        """After each operation, also after one that changed nothing."""
        match operation:
            case Identify() | Edit():
                person = state.people.find(operation.who)
                if person is not None:
                    self._identified(person)
            case Track() if operation.who is not None and state.activity_number > self._last_number:
                self._last_number = state.activity_number
                person = state.people.find(operation.who)
                if person is not None and person.activities and person.activities[-1].number == self._last_number:
                    self._did(person, person.activities[-1])

    def _identified(self, person: Person) -> None:
        before, after = self._known.get(person.cio_id, _UNKNOWN), _consent(person)
        if after == before:
            return
        self._known[person.cio_id] = after
        if after.unsubscribed != before.unsubscribed and (before.unsubscribed or after.unsubscribed is not None):
            self._customer("unsubscribed" if after.unsubscribed else "subscribed", person)
        if after.preferences != before.preferences:
            self._customer(PREFERENCES, person)

    def _did(self, person: Person, activity: Activity) -> None:
        recent = activity.received - activity.timestamp <= _TRIGGERS_FOR
        if activity.type == "event" and activity.name == self.event and recent:
            self._begin(partial(self._mail, person, activity))

    def _customer(self, metric: str, person: Person) -> None:
        preferences = person.attributes.get(_ATTRIBUTE)
        preferences = preferences if isinstance(preferences, dict) else {}
        self._report(self._webhook(("customer", metric), person, preferences=preferences))

    async def _mail(self, person: Person, trigger: Activity) -> None:
        if person.unsubscribed or person.email is None:
            return
        delivery_id = webhook_bodies.delivery_id(self._rng)
        origin = webhook_bodies.Campaign(delivery_id, trigger_event_id=trigger.id)
        for seconds, kind in STEPS:
            if seconds:
                await self._clock.sleep(seconds)
            self._report(self._webhook(kind, person, origin=origin))

    def _webhook(self, kind: Kind, person: Person, **more: Any) -> Webhook:
        now = int(self._clock.now())
        event_id = webhook_bodies.ulid(self._rng, now)
        about = recipient(person)
        return webhook_bodies.webhook(kind, about, event_id=event_id, timestamp=now, setup=self._setup, **more)


def recipient(person: Person) -> Recipient:
    """A person without a phone still gets text messages, at a pretend number."""
    phone = person.identifiers.get("phone", webhook_bodies.PRETEND_PHONE)
    return Recipient(person.id, person.email, person.cio_id, phone)


def _consent(person: Person) -> _Consent:
    attributes = person.attributes
    preferences = attributes.get(_ATTRIBUTE)
    return _Consent(
        means_unsubscribed(attributes["unsubscribed"]) if "unsubscribed" in attributes else None,
        None if preferences is None else orjson.dumps(preferences, option=orjson.OPT_SORT_KEYS),
    )
