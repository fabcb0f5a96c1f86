"""What a proof came to: figures, cases, and whether enough moved for them to mean anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from connector.commands.prove import comparing_webhooks
from connector.commands.prove.cases import KINDS, Case
from connector.commands.prove.comparing import Applied, Evidence
from connector.commands.prove.comparing_events import REPEATED
from connector.commands.prove.killing import Killed
from connector.commands.prove.load import Load
from connector.commands.prove.options import Wanted

_SHOWN = 20
_IN_JSON = 1000
_LONGEST_DETAIL = 500


@dataclass(frozen=True, slots=True)
class Figures:
    """How much moved. `answers` counts repeats, too; `delivered` are edits that arrived as an identify of their own,
    `returned` people who were made anew after a delete, `dropped` identifies that came late and had no effect.

    Of events of users, `events_told` were acknowledged, `events_unwanted` of them not whitelisted and `events_away`
    told while the user was outside; `events_out` arrived, `events_repeated` had done so before and had no effect.

    `opt_outs` are people of whom one was acknowledged; `noticed` are lines of the logs, by their word."""

    seconds: float
    kills: int
    kills_while_receiving: int
    kills_while_sending: int
    restarts: int
    webhooks: int
    answers: int
    opt_outs: int
    users: int
    edits: int
    moves: int
    delivered: int
    deleted: int
    returned: int
    dropped: int
    events_told: int
    events_unwanted: int
    events_away: int
    events_out: int
    events_repeated: int
    faults: dict[str, int]
    noticed: dict[str, int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """`kept` is the folder with settings, logs and stores, if it is still there."""

    wanted: Wanted
    figures: Figures
    cases: Sequence[Case]
    kept: str | None = None

    @property
    def too_little(self) -> list[str]:
        """What moved too little, in words."""
        wanted, moved = self.wanted, self.figures
        # A slow machine packs more into a call, so fewer calls meet a fault or a kill.
        many, some = max(1, wanted.kills // 4), max(1, wanted.kills // 10)
        floors = {
            "kills": (moved.kills, wanted.kills),
            "kills_while_receiving": (moved.kills_while_receiving, many),
            "kills_while_sending": (moved.kills_while_sending, some),
            "restarts": (moved.restarts, wanted.restarts),
            "webhooks": (moved.webhooks, wanted.events),
            # Ten times as many are reported, to speak of chance.
            "opt_outs": (moved.opt_outs, wanted.events // 1000),
            "delivered": (moved.delivered, wanted.users + wanted.events // 40),
            "moves": (moved.moves, 1),
            "deleted": (moved.deleted, 1),
            "events_out": (moved.events_out, wanted.events_out),
            "events_unwanted": (moved.events_unwanted, 1),
            "events_away": (moved.events_away, 1),
            "faults": (sum(moved.faults.values()), some),
        }
        return [f"{name}: {found:,}, at least {least:,}" for name, (found, least) in floors.items() if found < least]

    @property
    def holds(self) -> bool:
        return not self.cases and not self.too_little

    def as_json(self) -> dict[str, Any]:
        counted = Counter(case.kind for case in self.cases)
        return {
            "holds": self.holds,
            "seed": self.wanted.seed,
            "store": "sqlite" if self.wanted.is_sqlite else "postgresql",
            "processes": self.wanted.roles,
            **asdict(self.figures),
            **{kind: counted[kind] for kind in KINDS},
            "moved_too_little": self.too_little,
            "cases": [case._asdict() for case in self.cases[:_IN_JSON]],
            "kept": self.kept,
        }


def describe(outcome: Outcome) -> Iterator[str]:
    """For a person, a line each."""
    moved, wanted = outcome.figures, outcome.wanted
    faults = ", ".join(f"{count:,} {word}" for word, count in sorted(moved.faults.items()))
    counted = Counter(case.kind for case in outcome.cases)
    yield (
        f"{'SQLite' if wanted.is_sqlite else 'PostgreSQL'}, {' + '.join(wanted.roles)}, seed {wanted.seed}, "
        f"{moved.seconds:.0f} s"
    )
    yield (
        f"{moved.kills:>10,}  kill -9: {moved.kills_while_receiving:,} with webhooks under way, "
        f"{moved.kills_while_sending:,} with users in flight; {moved.restarts:,} restarts of the database"
    )
    yield (
        f"{moved.webhooks:>10,}  webhooks acknowledged, {moved.answers:,} answers 200 with the repeats; "
        f"{moved.opt_outs:,} people opted out"
    )
    yield f"{moved.edits:>10,}  edits of {moved.users:,} users acknowledged, {moved.moves:,} of them moves in or out"
    yield (
        f"{moved.delivered:>10,}  edits delivered, {moved.deleted:,} people deleted, {moved.returned:,} made anew; "
        f"{moved.dropped:,} calls came late and were dropped there as older"
    )
    yield (
        f"{moved.events_out:>10,}  events delivered of {moved.events_told:,} acknowledged, of which "
        f"{moved.events_unwanted:,} were not whitelisted and {moved.events_away:,} of users who were away; "
        f"{moved.events_repeated:,} came again and were dropped there by their ids"
    )
    yield f"{sum(moved.faults.values()):>10,}  faults met: {faults or 'none'}"
    if moved.noticed:
        found = ", ".join(f"{count:,} {word}" for word, count in sorted(moved.noticed.items()))
        yield f"{sum(moved.noticed.values()):>10,}  lines of the logs to look at: {found}"
    yield f"{'':10}  {', '.join(f'{counted[kind]:,} {kind}' for kind in KINDS)}"
    for case in outcome.cases[:_SHOWN]:
        yield f"  {case.kind}: {case.what}  {case.who}  {case.detail[:_LONGEST_DETAIL]}".rstrip()
    if len(outcome.cases) > _SHOWN:
        yield f"  … and {len(outcome.cases) - _SHOWN:,} more: --json has them"
    for each in outcome.too_little:
        yield f"  moved_too_little: {each}"
    if outcome.kept is not None:
        yield f"logs and stores are kept in {outcome.kept}"
    yield "holds" if outcome.holds else "DOES NOT HOLD"


def figures(
    seconds: float,
    killed: Killed,
    load: Load,
    answers: int,
    found: Evidence,
    faults: Mapping[str, int],
    noticed: Mapping[str, int],
) -> Figures:
    """Of a proof that took so long."""
    effective = [each for each in found.applied if each.refused is None]
    delivered = {(each.customer_id, each.seq) for each in effective if each.seq is not None}
    return Figures(
        seconds=round(seconds, 1),
        kills=killed.kills,
        kills_while_receiving=killed.receiving,
        kills_while_sending=killed.sending,
        restarts=killed.restarts,
        webhooks=len(found.sent),
        answers=answers,
        opt_outs=len(comparing_webhooks.opted_out(found.sent)),
        users=len(load.stories),
        edits=load.edits,
        moves=load.moves,
        delivered=len(delivered),
        deleted=sum(each.what == "delete" for each in effective),
        returned=_returned(effective),
        dropped=sum(each.refused == "older_timestamp" for each in found.applied),
        events_told=load.talking.told,
        events_unwanted=sum(not event.is_wanted for each in found.histories.values() for event in each.happened),
        events_away=load.talking.away,
        events_out=len({each.told_as for each in found.arrived if each.refused is None}),
        events_repeated=sum(each.refused == REPEATED for each in found.arrived),
        faults=dict(faults),
        noticed=dict(noticed),
    )


def _returned(effective: Sequence[Applied]) -> int:
    gone: set[str] = set()
    returned: Counter[str] = Counter()
    for each in effective:
        if each.what == "delete":
            gone.add(each.customer_id)
        elif each.customer_id in gone:
            gone.discard(each.customer_id)
            returned[each.customer_id] += 1
    return returned.total()
