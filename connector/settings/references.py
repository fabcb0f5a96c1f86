"""Segments that refer to each other: whether those that are meant exist, none leads back to itself, and all of them
together, each reference written out, are still something that a database takes in one query.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from connector.settings import conditions
from connector.settings.conditions import Condition, Event, Reference, Segment
from connector.settings.faults import Path, Problem, did_you_mean, quoted

# Of one segment, with all that it refers to; deeper and longer ones would meet the limits of SQL parsers.
DEEPEST = 20
MOST = 500
# Of all segments together, which are evaluated in one query: SQLite takes 32,766 parameters, and a pass asks twice.
MOST_IN_ALL = 3_000


def problems(segments: Mapping[str, Segment]) -> Iterator[Problem]:
    """What is wrong with the references, with places from the top of the settings."""
    references = {name: list(_references(segment.condition, ())) for name, segment in segments.items()}
    wrong = list(_unknown(references)) or list(_circles(references))
    yield from wrong
    if not wrong:
        yield from _sizes(segments)


def _references(condition: Condition, where: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(condition, Reference):
        yield (*where, "segment"), condition.segment
    for place, each in conditions.inner(condition):
        yield from _references(each, (*where, *place))


def _unknown(references: Mapping[str, list[tuple[Path, str]]]) -> Iterator[Problem]:
    for name, meant in references.items():
        for where, other in meant:
            if other not in references:
                message = f"no segment is called {quoted(other)}{did_you_mean(other, references)}"
                yield Problem(("segments", name, *where), message)


def _circles(references: Mapping[str, list[tuple[Path, str]]]) -> Iterator[Problem]:
    """One problem for each circle, at the reference in it that comes first in the file."""
    done: set[str] = set()
    for start in references:
        # Without recursion: a chain may be as long as there are segments.
        way: list[tuple[str, Iterator[tuple[Path, str]]]] = [(start, iter(references[start]))]
        while way:
            name, left = way[-1]
            step = next(left, None) if name not in done else None
            if step is None:
                done.add(name)
                way.pop()
                continue
            where, other = step
            on_the_way = [each for each, _ in way]
            if other in on_the_way:
                circle = [*on_the_way[on_the_way.index(other) :], other]
                told = " -> ".join(quoted(each) for each in circle)
                yield Problem(("segments", name, *where), f"leads back to itself: {told}")
            elif other not in done:
                way.append((other, iter(references[other])))


def _sizes(segments: Mapping[str, Segment]) -> Iterator[Problem]:
    known: dict[str, tuple[int, int]] = {}
    in_all = 0
    for name in segments:
        count, depth = _measured(name, segments, known)
        in_all += count
        if count > MOST:
            message = f"comes to {count:,} conditions with all that it refers to, {MOST} are the most"
            yield Problem(("segments", name), f"{message} that a database takes")
        elif depth > DEEPEST:
            message = f"is nested {depth} deep with all that it refers to, {DEEPEST} is the most"
            yield Problem(("segments", name), f"{message} that a database takes")
    if in_all > MOST_IN_ALL:
        message = f"come to {in_all:,} conditions in all, {MOST_IN_ALL:,} are the most that a database takes"
        yield Problem(("segments",), message)


def _measured(name: str, segments: Mapping[str, Segment], known: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """How many comparisons a segment comes to, and how deep they are nested."""
    waiting = [name]
    while waiting:
        missing = [other for _, other in _references(segments[waiting[-1]].condition, ()) if other not in known]
        if missing:
            waiting.append(missing[0])
        else:
            done = waiting.pop()
            known[done] = _measure(segments[done].condition, known)
    return known[name]


def _measure(condition: Condition, known: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    if isinstance(condition, Reference):
        return known[condition.segment]
    if isinstance(condition, Event):
        return 1 + len(condition.where), 0
    inner = [_measure(each, known) for _, each in conditions.inner(condition)]
    if not inner:
        return 1, 0
    return sum(count for count, _ in inner), 1 + max(depth for _, depth in inner)
