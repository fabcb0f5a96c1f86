"""Webhooks in volume: so many, of a mix of kinds, about given people; the same ones for the same seed.

    Mix -> reports: pick a kind, a person, an origin, flags -> one webhook -> repeat some, shuffle -> Report, Report, …

Nothing is built before it is asked for, so a mix of any size takes little memory. Legacy types are kinds by their
own name (`email_sent`); without `kinds` every kind and type is as likely as any other.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Annotated

import msgspec
from msgspec import Meta

from connector.sandbox.webhooks import legacy_bodies, webhook_bodies, webhook_kinds
from connector.sandbox.webhooks.legacy_bodies import Address
from connector.sandbox.webhooks.webhook_bodies import FLAGS, Recipient, Setup
from connector.sandbox.webhooks.webhook_sender import Report

MOST = 1_000_000
NAMES: dict[str, webhook_kinds.Kind | None] = {".".join(kind): kind for kind in webhook_kinds.KINDS} | dict.fromkeys(
    legacy_bodies.TYPES
)

# Whom webhooks are about when nobody else is there: a whole person, one with nulls, a deleted one, none at all.
STRANGERS = (
    Recipient("42", "a@b.co", "d9c106000001"),
    Recipient(None, "only@mail.example", "d9c106000002"),
    Recipient("43", "gone@b.co", "d9c106000003", deleted=True),
    Recipient(None, None, "d9c106000004"),
)

_WINDOW = 1000  # how far apart a webhook and its repeat, or its place and where it comes, can be
_ADDRESSES: tuple[Address, ...] = ("bare", "named", "null")


class Mix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`count` doesn't count the repeats, which are `duplicates` of it, a share. `kinds` may have weights.

    `people` are ids; None: everyone. Without `per_second` they come as fast as they can be made. Without a `seed`
    no id comes twice, however many mixes there are.

    With `connections` they don't wait in the vendor's order: so many are on their way at once (`load`), and one that
    isn't accepted is sent again after `retry_seconds`.
    """

    count: Annotated[int, Meta(ge=1, le=MOST)]
    kinds: list[str] | dict[str, Annotated[float, Meta(gt=0, le=1_000_000)]] | None = None
    people: list[str] | None = None
    per_second: Annotated[float, Meta(ge=0.001, le=1_000_000)] | None = None
    duplicates: Annotated[float, Meta(ge=0, le=1)] = 0.0
    shuffled: bool = False
    seed: int | None = None
    connections: Annotated[int, Meta(ge=1, le=256)] | None = None
    retry_seconds: Annotated[float, Meta(ge=0.01, le=3600)] = 1.0

    @property
    def weights(self) -> dict[str, float]:
        """Of each kind. Raises ValueError for a name that is none, and for no name at all."""
        kinds = self.kinds
        weights = kinds if isinstance(kinds, dict) else dict.fromkeys(NAMES if kinds is None else kinds, 1.0)
        if not weights:
            raise ValueError("kinds must name at least one kind")
        if unknown := sorted(weights.keys() - NAMES):
            raise ValueError(f"no such kind: {', '.join(unknown)}")
        return weights


def reports(mix: Mix, people: Sequence[Recipient], setup: Setup, started: float) -> Iterator[Report]:
    """The whole mix. Each webhook's time is that of its turn, from `started` (unix seconds) on; those that are
    shuffled happened so much earlier that none comes before its time."""
    rng = random.Random(mix.seed)  # noqa: S311 - repeatable where that is asked for, no secret
    weights = mix.weights
    names, up_to = list(weights), list(accumulate(weights.values()))
    apart = 1 / mix.per_second if mix.per_second else 0.0
    first = started - (_WINDOW * apart if mix.shuffled else 0.0)
    made: Iterable[Report] = (
        _one(rng.choices(names, cum_weights=up_to)[0], rng.choice(people), rng, setup, int(first + number * apart))
        for number in range(mix.count)
    )
    if mix.duplicates:
        made = _with_repeats(made, mix.duplicates, rng)
    return _shuffled(made, rng) if mix.shuffled else iter(made)


def _one(name: str, recipient: Recipient, rng: random.Random, setup: Setup, timestamp: int) -> Report:
    kind = NAMES[name]
    delivery_id = webhook_bodies.delivery_id(rng)
    if kind is None:
        return legacy_bodies.webhook(
            name,
            recipient,
            event_id=legacy_bodies.event_id(rng),
            timestamp=timestamp,
            delivery_id=delivery_id,
            address=rng.choice(_ADDRESSES),
        )
    return webhook_bodies.webhook(
        kind,
        recipient,
        event_id=webhook_bodies.ulid(rng, timestamp),
        timestamp=timestamp,
        origin=rng.choice(webhook_bodies.origins(kind, delivery_id)),
        setup=setup,
        flags=[flag for flag in FLAGS if rng.random() < 0.1],
    )


def _with_repeats(made: Iterable[Report], share: float, rng: random.Random) -> Iterator[Report]:
    """Each with this probability once more, up to a window later."""
    due: dict[int, list[Report]] = {}
    for place, report in enumerate(made):
        yield report
        if rng.random() < share:
            due.setdefault(place + rng.randrange(_WINDOW), []).append(report)
        yield from due.pop(place, ())
    for later in sorted(due):
        yield from due[later]


def _shuffled(made: Iterable[Report], rng: random.Random) -> Iterator[Report]:
    """In random order within a window that moves along."""
    window: list[Report] = []
    for report in made:
        if len(window) < _WINDOW:
            window.append(report)
            continue
        place = rng.randrange(_WINDOW)
        yield window[place]
        window[place] = report
    rng.shuffle(window)
    yield from window
