"""`connector import users|events|messages FILE…`: what is asked for, and the summary of each file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from connector import app, errors
from connector.commands import import_files, import_options, rows, terminal
from connector.commands.import_files import Kind, Summary
from connector.commands.rows import source
from connector.commands.rows.source import Options
from connector.inbound.reader import Reader
from connector.store import due_events, runs


def command(
    context: typer.Context,
    what: import_files.What,
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help=".csv, .jsonl, either as .gz; - is stdin.")],
    renamed: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="HEADER=NAME", help="A CSV's column by another name; repeatable."),
    ] = None,
    types: Annotated[
        str, typer.Option(metavar="NAME=TYPE,…", help="text, integer, number or boolean, instead of the guess.")
    ] = "",
    form: Annotated[rows.Form | None, typer.Option("--format", help="Instead of by the file's name.")] = None,
    send: Annotated[
        bool, typer.Option("--send", help="Events are to be sent, as [events] says; without it they are history.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="From the first row, also where an interrupted import could go on.")
    ] = False,
    settings: terminal.SettingsFile = None,
    as_json: terminal.AsJson = False,
) -> None:
    """Users, events or Segment-spec messages from CSV or JSONL files into the store.

    Exits 1 when rows were rejected; the others are stored.
    """
    if send and what is not import_files.What.events:
        raise errors.Misconfigured("--send is for events")
    wanted = Options(form, import_options.renamed(renamed or ()), import_options.types(types))
    _, loaded = terminal.settings(context, settings)
    import_files.collect_less()
    kind = import_files.kind(what, send=loaded.events if send else None, opt_out=loaded.people.opt_out)
    rejected = 0
    with terminal.store(loaded, make=True) as db:
        for path in files:
            summary = import_files.one(db, loaded, kind, path, app.now, wanted, terminal.remarks, restart=restart)
            rejected += summary.rejected.total()
            name = "stdin" if path == source.STDIN else str(path)
            lines = (f"{name}: {line}" for line in [*_describe(kind, summary), *(_sending(summary) if send else ())])
            found = _as_json(name, kind, summary) | (_sending_as_json(summary) if send else {})
            terminal.show(found, lines, as_json)
        if what is import_files.What.messages:
            app.run(Reader(db, lambda: loaded, app.now).read_outstanding())
            db.write(runs.ask, app.now())
    raise typer.Exit(1 if rejected else 0)


def _as_json(name: str, kind: Kind, summary: Summary) -> dict[str, Any]:
    return {
        "file": name,
        **{word: summary.count(word) for word in kind.words},
        "rejected": dict(summary.rejected),
        "rejects": str(summary.rejects) if summary.rejects else None,
        "went_on_at": summary.went_on_at or None,
    }


def _sending_as_json(summary: Summary) -> dict[str, int]:
    results = summary.results
    return {
        "due": results["due"] + results["triggering"],
        "would_trigger": results["triggering"],
        "too_old": results["too_old"],
        "not_whitelisted": results["not_whitelisted"],
    }


def _sending(summary: Summary) -> Iterator[str]:
    """What becomes of events that are to be sent, a line each."""
    found = _sending_as_json(summary)
    hours = f"{due_events.TRIGGERS.total_seconds() / 3600:.0f}"
    yield (
        f"{found['due']:,} due to be sent; {found['would_trigger']:,} of them are younger than {hours} hours and would "
        "trigger campaigns"
    )
    if found["too_old"]:
        yield f"{found['too_old']:,} will not be sent (too_old): older than events.max_age"
    if found["not_whitelisted"]:
        yield f"{found['not_whitelisted']:,} are history: not whitelisted by events.names and events.pages"


def _describe(kind: Kind, summary: Summary) -> Iterator[str]:
    """The summary in words, a line each."""
    counts = ", ".join(f"{summary.count(word):,} {word}" for word in kind.words)
    yield f"{counts}, from row {summary.went_on_at:,} on" if summary.went_on_at else counts
    if summary.erased:
        yield f"{summary.erased:,} erased: they are about people who asked to be forgotten, and were not taken"
    if summary.rejected:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(summary.rejected.items()))
        yield f"{summary.rejected.total():,} rejected ({reasons}), see {summary.rejects}"
