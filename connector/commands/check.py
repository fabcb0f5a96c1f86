"""`connector check [NEW]`: a line for each thing that has to be right, with what to do where it isn't."""

from __future__ import annotations

import json
from collections.abc import Iterator

from connector import app, errors
from connector.commands import check_intake, check_webhooks, gate_text, never_seen, plan_text
from connector.commands.findings import Level as Level
from connector.commands.findings import Line as Line
from connector.core import remarks
from connector.outbound.client import TrackClient
from connector.settings import Settings
from connector.store import event_counts, gate, segments
from connector.store.database import Database


async def check(settings: Settings) -> list[Line]:
    """Everything that can be found out now; reads only. A fault means that something will not work."""
    lines = [Line("warning", "settings", f"{each.reason}: {each.message}") for each in remarks.remarks(settings)]
    lines += check_webhooks.from_settings(settings)
    lines += await _credentials(settings)
    try:
        db = app.open_store(settings)
    except (errors.StoreBehind, errors.Failed) as error:
        return [*lines, Line("fault", "store", str(error))]
    try:
        lines.append(Line("ok", "store", f"{db.dialect}, at this version's schema"))
        lines.append(_gate(db))
        lines += check_webhooks.from_store(db, settings, app.now())
        lines += check_intake.check(db, settings, app.now())
        lines += _people(db, settings)
        due = db.read(event_counts.counts)["due"] if settings.sync.paused else 0
        lines += (Line("warning", "sync", each) for each in plan_text.paused(settings, due))
        lines += (Line("warning", "segments", each) for each in never_seen.lines(db, settings, app.now()))
    finally:
        db.close()
    return lines


async def _credentials(settings: Settings) -> list[Line]:
    workspace = settings.customerio
    if not workspace.site_id:
        return [Line("warning", "customerio", "customerio.site_id is empty: nothing is sent")]
    async with TrackClient(workspace, throttle=None) as client:
        answer = await client.region()
    if answer.status is None:
        return [Line("fault", "customerio", f"can't be reached ({answer.problem}): check the network and track_url")]
    if answer.status in {401, 403}:
        return [Line("fault", "customerio", "refuses the credentials: site_id and api_key must be one Track API row")]
    if answer.status != 200:
        return [Line("fault", "customerio", f"answered {answer.status} when asked for the region")]
    try:
        lives_in = json.loads(answer.body).get("region")
    except (ValueError, AttributeError):
        return [Line("fault", "customerio", "answered something else than a region; is track_url right?")]
    if lives_in != workspace.region:
        wrong = f"the workspace lives in {lives_in}, customerio.region says {workspace.region}: change it"
        return [Line("fault", "customerio", wrong)]
    return [Line("ok", "customerio", f"accepts the credentials, region {lives_in}")]


def _gate(db: Database) -> Line:
    closed = db.read(gate.look)
    if closed is None:
        return Line("ok", "gate", "open: nothing keeps calls back")
    return Line("fault", "gate", gate_text.fault(closed))


def _people(db: Database, settings: Settings) -> Iterator[Line]:
    if not settings.people.segments:
        yield Line("warning", "people", "people.segments is empty: nobody is sent")
    for name, size in db.read(segments.sizes, settings, app.now()).items():
        listed = "whitelisted" if name in settings.people.segments else "not whitelisted"
        level: Level = "warning" if size == 0 and name in settings.people.segments else "ok"
        yield Line(level, "segments", f"{name}: {size:,} users, {listed}")
