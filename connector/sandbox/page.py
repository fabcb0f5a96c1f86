"""The page at `/`: what the sandbox holds, for people. Plain HTML made here, nothing else is loaded.

Everything that came from outside goes through `_cell` or `_text`, which escape it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from itertools import islice
from typing import Any

import msgspec
import orjson
from aiohttp import web

from connector.sandbox import read_back
from connector.sandbox.faults import FAULTS
from connector.sandbox.read_back import STATE
from connector.sandbox.state import Call
from connector.sandbox.webhooks import delivery, webhook_routes
from connector.sandbox.webhooks.reporting import WEBHOOKS

_PEOPLE = 50
_ROWS = 20
_LONGEST_CELL = 300
_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "Cache-Control": "no-store"}
_STYLE = (
    "body{font:14px/1.4 system-ui,sans-serif;margin:2em}table{border-collapse:collapse;margin:0 0 2em}"
    "td,th{border:1px solid #ccc;padding:.2em .6em;text-align:left;vertical-align:top;overflow-wrap:anywhere}"
    "h2{font-size:1.1em;margin:0 0 .4em}th{background:#f3f3f3}"
)


class Table(msgspec.Struct, frozen=True):
    """A heading, the path where all of it is as JSON, and rows of values of any kind."""

    heading: str
    path: str
    columns: Sequence[str]
    rows: Iterable[Sequence[object]]


def routes() -> list[web.RouteDef]:
    return [web.get("/", _show)]


async def _show(request: web.Request) -> web.Response:
    return web.Response(text=render(tables(request.app)), content_type="text/html", headers=_HEADERS)


def tables(app: web.Application) -> list[Table]:
    return [
        _counts(app),
        _faults(app),
        _backlog(app),
        _people(app),
        _calls(app),
        _activities(app),
        _log(app),
        _deliveries(app),
        _webhooks(app),
    ]


def render(shown: Iterable[Table]) -> str:
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sandbox</title>',
        f"<style>{_STYLE}</style></head><body><h1>A local Customer.io</h1>",
    ]
    for table in shown:
        parts.append(f'<h2>{_text(table.heading)} <a href="{_text(table.path)}">JSON</a></h2><table><tr>')
        parts += [f"<th>{_text(column)}</th>" for column in table.columns]
        parts.append("</tr>")
        rows = [f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows]
        parts += rows or [f'<tr><td colspan="{len(table.columns)}">nothing</td></tr>']
        parts.append("</table>")
    return "".join([*parts, "</body></html>\n"])


def _counts(app: web.Application) -> Table:
    return Table("Counts", "/sandbox", ("what", "count"), _pairs(read_back.counts(app[STATE])))


def _faults(app: web.Application) -> Table:
    on = {name: value for name, value in app[FAULTS].on().items() if value}
    return Table("Faults that are on", "/sandbox/faults", ("fault", "setting"), _pairs(on))


def _backlog(app: web.Application) -> Table:
    """How the queue of webhooks stands, head first; the age of the head is the time it has been waiting."""
    status = app[WEBHOOKS].status() if app[WEBHOOKS].goes_somewhere else {}
    return Table("Webhook backlog", "/sandbox/webhooks", ("what", "state"), _pairs(status))


def _webhooks(app: web.Application) -> Table:
    columns = ("event_id", "kind", "outcome", "tries", "answers")
    newest = [delivery.shown(each) for each in islice(app[WEBHOOKS].delivery.recent(), _ROWS)]
    return Table(f"Webhooks, the last {_ROWS}", "/sandbox/webhooks/recent", columns, _rows(newest, columns))


def _deliveries(app: web.Application) -> Table:
    newest = [webhook_routes.mail(each) for each in islice(reversed(app[WEBHOOKS].reactions.mails), _ROWS)]
    columns = ("number", "delivery_id", "recipient", "trigger_event_id", "metrics")
    return Table(f"Deliveries, the last {_ROWS}", "/sandbox/deliveries", columns, _rows(newest, columns))


def _people(app: web.Application) -> Table:
    people = [read_back.person(each) for each in islice(app[STATE].people, _PEOPLE)]
    columns = ("id", "email", "cio_id", "unsubscribed", "attributes")
    return Table(f"People, the first {_PEOPLE}", "/sandbox/people", columns, _rows(people, columns))


def _calls(app: web.Application) -> Table:
    calls = [
        (each.number, _time(each.at), each.method, each.path, each.status, each.fault, _start(each))
        for each in islice(reversed(app[STATE].calls), _ROWS)
    ]
    columns = ("number", "at", "method", "path", "status", "fault", "body")
    return Table(f"Calls, the last {_ROWS}", "/sandbox/calls", columns, calls)


def _activities(app: web.Application) -> Table:
    newest = [read_back.activity(*each) for each in read_back.newest_activities(app[STATE], _ROWS)]
    columns = ("number", "customer_id", "email", "anonymous_id", "type", "name", "id", "data")
    return Table(f"Activities, the last {_ROWS}", "/sandbox/activities", columns, _rows(newest, columns))


def _log(app: web.Application) -> Table:
    newest = [read_back.log_entry(*each) for each in islice(read_back.newest_log_entries(app[STATE]), _ROWS)]
    columns = ("number", "what", "reason", "who", "detail")
    heading = f"Answered with 200 and without effect, the last {_ROWS}"
    return Table(heading, "/sandbox/log", columns, _rows(newest, columns))


def _rows(found: Iterable[dict[str, Any]], columns: Sequence[str]) -> list[tuple[object, ...]]:
    return [tuple(each[column] for column in columns) for each in found]


def _pairs(found: dict[str, Any]) -> list[tuple[str, object]]:
    """One row for each value, those of a dict under its name."""
    rows: list[tuple[str, object]] = []
    for name, value in found.items():
        if isinstance(value, dict):
            rows += [(f"{name}: {inner}", each) for inner, each in value.items()]
        else:
            rows.append((name, value))
    return rows


def _start(call: Call) -> str:
    if call.encoding:
        return f"{call.encoding}, {len(call.body)} bytes"
    return call.body[: _LONGEST_CELL + 1].decode(errors="replace")


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")


def _cell(value: object) -> str:
    if value is None:
        return "<td></td>"
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return f"<td>{_text(text if len(text) <= _LONGEST_CELL else text[:_LONGEST_CELL] + '…')}</td>"


def _text(value: str) -> str:
    return escape(value, quote=True)
