"""Webhooks over HTTP: looking at them, setting where they go and what is in them, sending them in volume.

GET  /sandbox/webhooks                 how the queue stands: backlog, its head, the next try; the settings
PUT  /sandbox/webhooks                 the settings: url, signing_key, campaign_event, body_content, only_ids,
                                       object_type_type; what isn't named stays as it is
POST /sandbox/webhooks                 sends a mix in volume (volume.Mix): count, kinds, people, per_second, duplicates,
                                       shuffled, seed, connections, retry_seconds
GET  /sandbox/webhooks/queue           what waits, the head first
GET  /sandbox/webhooks/recent          the last 1,000 that were tried, newest first; not those of a load
GET  /sandbox/webhooks/acknowledged    the last 1,000,000 that were answered 2xx, oldest first
GET  /sandbox/deliveries               the last 10,000 mails of the pretend campaign, newest first

Lists come in pages as in `read_back`, by `limit` and `after`.
"""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from connector.sandbox import json_body, read_back
from connector.sandbox.read_back import STATE
from connector.sandbox.state import State
from connector.sandbox.webhooks import campaign, delivery, reporting, volume
from connector.sandbox.webhooks.acknowledged import Acknowledgement
from connector.sandbox.webhooks.campaign import Mail
from connector.sandbox.webhooks.reporting import WEBHOOKS
from connector.sandbox.webhooks.volume import Mix
from connector.sandbox.webhooks.webhook_bodies import Recipient


class _Settings(msgspec.Struct, forbid_unknown_fields=True):
    url: str | UnsetType = UNSET
    signing_key: str | UnsetType = UNSET
    campaign_event: str | UnsetType | None = UNSET
    body_content: bool | UnsetType = UNSET
    only_ids: bool | UnsetType = UNSET
    object_type_type: bool | UnsetType = UNSET


def routes() -> list[web.RouteDef]:
    return [
        web.get("/sandbox/webhooks", _status),
        web.put("/sandbox/webhooks", _set),
        web.post("/sandbox/webhooks", _send),
        web.get("/sandbox/webhooks/queue", _queue),
        web.get("/sandbox/webhooks/recent", _recent),
        web.get("/sandbox/webhooks/acknowledged", _acknowledged),
        web.get("/sandbox/deliveries", _deliveries),
    ]


def mail(each: Mail) -> dict[str, Any]:
    """A delivery; `recipient` and `identifiers` are those of when it was sent, `metrics` has the time of each state."""
    about = each.recipient
    return {
        "number": each.number,
        "delivery_id": each.origin.delivery_id,
        "type": "email",
        "recipient": about.email,
        "identifiers": {"id": about.id, "email": about.email, "cio_id": about.cio_id},
        "campaign_id": each.origin.campaign_id,
        "action_id": each.origin.action_id,
        "trigger_event_id": each.origin.trigger_event_id,
        "metrics": each.metrics,
    }


async def _status(request: web.Request) -> web.Response:
    return json_body.answer(request.app[WEBHOOKS].status())


async def _queue(request: web.Request) -> web.Response:
    waiting = request.app[WEBHOOKS].delivery.waiting(read_back.after(request))
    return read_back.listed(request, waiting, delivery.shown, key=lambda each: each.number)


async def _recent(request: web.Request) -> web.Response:
    recent = request.app[WEBHOOKS].delivery.recent(read_back.after(request))
    return read_back.listed(request, recent, delivery.shown, key=lambda each: each.number)


async def _acknowledged(request: web.Request) -> web.Response:
    found = request.app[WEBHOOKS].acknowledged.read(read_back.after(request))
    return read_back.listed(request, found, Acknowledgement.shown, key=lambda each: each.number)


async def _deliveries(request: web.Request) -> web.Response:
    before = read_back.after(request)
    mails = reversed(request.app[WEBHOOKS].reactions.mails)
    newest = (each for each in mails if before is None or each.number < before)
    return read_back.listed(request, newest, mail, key=lambda each: each.number)


async def _send(request: web.Request) -> web.Response:
    """Answers with the mix's seed, with which it could be sent again."""
    webhooks = request.app[WEBHOOKS]
    try:
        mix = json_body.read_as(await request.read(), Mix)
        people = _people(request.app[STATE], mix.people)
        if not webhooks.goes_somewhere:
            return json_body.answer({"error": "there is no URL to send webhooks to; PUT one here first"}, 409)
        if not webhooks.is_delivering:
            return json_body.answer({"error": "webhooks are not delivered any more; GET here says why"}, 503)
        mix = webhooks.send(mix, people)
    except ValueError as error:  # Malformed is one
        return json_body.answer({"error": str(error)}, 400)
    return json_body.answer({"count": mix.count, "seed": mix.seed}, 202)


async def _set(request: web.Request) -> web.Response:
    webhooks = request.app[WEBHOOKS]
    now = webhooks.delivery.endpoint
    try:
        named = _named(json_body.read_as(await request.read(), _Settings))
        if "url" in named or "signing_key" in named:
            now = reporting.endpoint(named.pop("url", now.url), named.pop("signing_key", now.signing_key))
    except ValueError as error:
        return json_body.answer({"error": str(error)}, 400)
    webhooks.delivery.endpoint = now
    webhooks.reactions.event = named.pop("campaign_event", webhooks.reactions.event)
    webhooks.reactions.setup = msgspec.structs.replace(webhooks.reactions.setup, **named)
    return json_body.answer(webhooks.status())


def _named(settings: _Settings) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(settings).items() if value is not UNSET}


def _people(state: State, ids: list[str] | None) -> list[Recipient]:
    if ids is None:
        return [campaign.recipient(person) for person in state.people] or list(volume.STRANGERS)
    found = [state.find("id", each) for each in ids]
    if not found or None in found:
        raise ValueError("people must be ids of people who are there")
    return [campaign.recipient(person) for person in found if person is not None]
