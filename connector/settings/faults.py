"""What is wrong with settings, in plain sentences: never a value that may be a secret, only what kind it is.

Our validators refuse with `refused(...)`, pydantic in its own words; `found` turns both into `Problem`s. A
problem knows its place in the settings; the line is found later, from the file.
"""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

Path: TypeAlias = tuple[str | int, ...]

_REFUSED = "refused"
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Problem(NamedTuple):
    """Something wrong at one place; `where` is relative to who raised it until `found` makes it absolute."""

    where: Path
    message: str


def refused(*problems: Problem) -> PydanticCustomError:
    """The error a validator raises to refuse its value, with every problem in it at once."""
    text = "; ".join(f"{written(where)}: {message}" if where else message for where, message in problems)
    return PydanticCustomError(_REFUSED, "{text}", {"text": text, "problems": problems})


def unless(fine: bool, message: str) -> None:
    """Refuse the value that is being validated unless it is fine."""
    if not fine:
        raise refused(Problem((), message))


def found(error: ValidationError) -> Iterator[Problem]:
    """All problems of a failed validation in plain words, with absolute paths.

    An unknown key has an empty message: what to say about it depends on all other keys.
    """
    for detail in error.errors(include_url=False):
        if detail["type"] == _REFUSED:
            for where, message in detail["ctx"]["problems"]:
                yield Problem(detail["loc"] + where, message)
        elif detail["type"] == "extra_forbidden":
            yield Problem(detail["loc"], "")
        elif detail["type"] == "too_short" and detail["input"]:
            # Its entries are wrong, and are told; pydantic counts only the right ones.
            continue
        else:
            yield Problem(detail["loc"], _sentence(detail))


def _sentence(detail: ErrorDetails) -> str:
    value, limits = detail["input"], detail.get("ctx", {})
    match detail["type"]:
        case "string_type":
            return f"must be text in quotes, is {kind(value)}"
        case "int_type":
            return f"must be a whole number, is {kind(value)}"
        case "float_type" | "finite_number":
            return f"must be a number, is {kind(value)}"
        case "bool_type":
            return f"must be true or false, is {kind(value)}"
        case "tuple_type":
            return f"must be a list, is {kind(value)}"
        case "model_type" | "model_attributes_type" | "dict_type" | "mapping_type":
            return f"must be a table, is {kind(value)}"
        case "literal_error":
            # The value stays unsaid: in the wrong field it may be a pasted key.
            return f"must be {str(limits['expected']).replace(chr(39), chr(34))}"
        case "greater_than":
            return f"must be more than {limits['gt']:g}, is {value}"
        case "greater_than_equal":
            return f"must be {limits['ge']} or more, is {value}"
        case "less_than_equal":
            return f"must be {limits['le']} or less, is {value}"
        case "string_too_short":
            return "must not be empty"
        case "too_short":
            return "must hold at least one entry"
        case "missing":
            return "is missing"
    return f"is not valid ({detail['type'].replace('_', ' ')})"


def kind(value: object) -> str:
    """What a TOML value is, as its writer would call it."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return "text" if value else "empty text"
        case int():
            return "a whole number"
        case float():
            return "not a finite number" if value - value != 0 else "a number with a fraction"
        case list() | tuple():
            return "a list"
        case dict():
            return "a table"
        case datetime.datetime():
            return "a date with a time"
        case datetime.date():
            return "a date"
        case datetime.time():
            return "a time"
    return "something else"


def near(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, whatever the case of its letters."""
    folded = {name.casefold(): name for name in known}
    matches = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    return folded[matches[0]] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word; empty when no known one is like it."""
    meant = near(word, known)
    return f"; did you mean {quoted(meant)}?" if meant is not None else ""


def quoted(text: str) -> str:
    """Text as TOML writes it, on one line whatever it holds."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'


def written(where: Path) -> str:
    """A place as a TOML path: `segments."Paying customers".all[0].gt`."""
    text = ""
    for step in where:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step if _BARE_KEY.fullmatch(step) else quoted(step)
            text += f".{name}" if text else name
    return text
