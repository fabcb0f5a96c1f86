"""`connector settings history|diff|undo|schema`: how the settings came to be what they are, and the way back."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

import connector
from connector import errors, settings_file
from connector.commands import broken_file, settings_undo, terminal
from connector.settings import difference, json_schema, secret_places
from connector.store import approvals, revisions
from connector.store.revisions import Revision

FIRST = 20

cli = typer.Typer(no_args_is_help=False, invoke_without_command=True, rich_markup_mode=None)


@cli.callback()
def common(context: typer.Context, settings: terminal.SettingsFile = None) -> None:
    """How the settings came to be what they are, and the way back."""
    context.obj = settings or context.obj
    if context.invoked_subcommand is None:
        terminal.out.print(context.get_help())
        raise typer.Exit(2)


@cli.command()
def history(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help=f"All revisions, not the newest {FIRST}.")] = False,
    settings: terminal.SettingsFile = None,
    as_json: terminal.AsJson = False,
) -> None:
    """The revisions of the settings, the newest first: when, what changed, what became of it."""
    with terminal.store(broken_file.only_its_store(terminal.path(context, settings))) as db:
        found = db.read(revisions.history, None if every else FIRST + 1)
        in_force, waiting = db.read(revisions.newest_applied), db.read(approvals.waiting)
    more = not every and len(found) > FIRST
    shown = found if every else found[:FIRST]
    words = {each.number: word for each, word in ((in_force, "in force"), (waiting, "waits")) if each is not None}
    terminal.show([_as_json(each) for each in shown], _described(shown, words, more), as_json)


@cli.command()
def diff(
    context: typer.Context,
    one: Annotated[int, typer.Argument(metavar="A", help="The number of a revision.")],
    other: Annotated[int | None, typer.Argument(metavar="[B]", help="Of another; else the file as it is.")] = None,
    settings: terminal.SettingsFile = None,
    as_json: terminal.AsJson = False,
) -> None:
    """What is different between two revisions: key by key, and line by line."""
    path = terminal.path(context, settings)
    with terminal.store(broken_file.only_its_store(path)) as db:
        numbers = [one] if other is None else [one, other]
        given = [_needed(db.read(revisions.of, number), number) for number in numbers]
    texts = [(f"revision {each.number} ({each.state} {each.at:%Y-%m-%d %H:%M:%S} UTC)", _text(each)) for each in given]
    if other is None:
        texts.append((str(path), _present(path)))
    (old_name, old), (new_name, new) = texts
    changes, why_not = _changes(path, old, new)
    lines = list(difflib.unified_diff(old.splitlines(), new.splitlines(), old_name, new_name, lineterm=""))
    told = None if changes is None else [each._asdict() for each in changes]
    words = [] if changes is None else difference.words(changes)
    if why_not is not None:
        terminal.remarks.print(why_not)
    terminal.show({"changes": told, "diff": lines}, _told(words, lines), as_json)


@cli.command()
def undo(
    context: typer.Context,
    number: Annotated[int | None, typer.Argument(metavar="[N]", help="The revision to go back to.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    settings: terminal.SettingsFile = None,
    as_json: terminal.AsJson = False,
) -> None:
    """Write the file as a revision had it, after showing the plan. Without a number: as the newest applied one that
    says something else than the file."""
    if as_json and not yes:
        raise errors.Misconfigured("--json goes with --yes: nobody would see the question")
    path = terminal.path(context, settings)
    with terminal.store(broken_file.only_its_store(path)) as db:
        raise typer.Exit(settings_undo.undo(db, path, number, asks=not yes, as_json=as_json))


@cli.command()
def schema(_settings: terminal.SettingsFile = None, _json: terminal.AsJson = True) -> None:
    """The JSON Schema of the settings file, for editors: connector settings schema > settings.schema.json"""
    package = Path(connector.__file__).parent
    example = next(
        (each for folder in (package, package.parent) if (each := folder / "settings.example.toml").is_file()), None
    )
    comments = json_schema.comments_of(example.read_text("utf-8")) if example is not None else {}
    made = msgspec.json.format(msgspec.json.encode(json_schema.schema(comments)), indent=2)
    sys.stdout.buffer.write(made + b"\n")
    sys.stdout.buffer.flush()


def _needed(found: Revision | None, number: int) -> Revision:
    if found is None:
        raise errors.Failed(f"there is no revision {number}: `connector settings history` lists them")
    return found


def _text(revision: Revision) -> str:
    if revision.text is None:
        raise errors.Failed(f"the text of revision {revision.number} is not kept: it was {revision.state}")
    return revision.text


def _present(path: Path) -> str:
    """The file as it is, as a revision would keep it."""
    text = secret_places.shareable(broken_file.read(path).decode(errors="replace"))
    if text is None:
        raise errors.Failed(f"{path} can't be used as it is, and a secret may stand in it: run `connector check` first")
    return text


def _changes(path: Path, old: str, new: str) -> tuple[Sequence[difference.Change] | None, str | None]:
    """Key by key; or why that can't be told: a variable is not set any more, or this version can't read it."""
    try:
        return difference.changes(settings_file.of_text(path, old), settings_file.of_text(path, new)), None
    except errors.Misconfigured as error:
        why = "; ".join(map(str, error.faults)) or error.message
        return None, f"only line by line, because one of the two can't be read now: {why}"


def _told(words: Sequence[str], lines: Sequence[str]) -> Iterator[str]:
    if not lines:
        yield "they say the same"
    yield from words
    if words:
        yield ""
    yield from lines


def _as_json(revision: Revision) -> dict[str, Any]:
    """All but the text, which `diff` shows."""
    return {name: getattr(revision, name) for name in Revision.__slots__ if name != "text"}


def _described(found: Sequence[Revision], words: Mapping[int, str], more: bool) -> Iterator[str]:
    """In `words`, by number, what else there is to say of a state. An edit that was held and waits no more is over."""
    if not found:
        yield "no revision yet: the first one is noted when `connector run` reads its settings"
    for each in found:
        word = words.get(each.number, "over" if each.state == "held" else "")
        state = f"{each.state} ({word})" if word else each.state
        why = f"  {each.reason}" if each.reason else ""
        yield f"{each.number:>5}  {each.at:%Y-%m-%d %H:%M:%S} UTC  {each.hash or '-':<12}  {state}{why}"
        yield from (f"       {line}" for line in each.changed)
        if counts := _counts(each.counts):
            yield f"       plan: {counts}"
    if more:
        yield "… and more: --all shows them"


def _counts(counts: Any) -> str:
    """Numbers by name, however they are nested: `create: 3 entered`."""
    told = []
    for name, value in sorted(counts.items(), key=lambda each: (isinstance(each[1], dict), each[0])):
        if isinstance(value, dict):
            inner = _counts(value)
            told.append(f"{name}: {inner}" if inner else "")
        elif isinstance(value, int) and not isinstance(value, bool):
            told.append(f"{value:,} {name}")
    return ", ".join(each for each in told if each)
