"""What Customer.io's webhooks teach about a user: consent, preferences, and when something last happened.

Words are applied in any order and any number of times with the same result: the newest by its own time counts, and
on a tie the opt-out. Our own data have a word on the opt-out too. It says something only where it is another one than
what is known; what it takes back was said before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from connector.records import Learnt, Preference, Word


def learn(known: Learnt, words: Iterable[Word]) -> Learnt:
    """What is known after these words."""
    # As they were said: our own data's "still out" is no news, and so must not come after their "in again".
    for word in sorted(words, key=lambda word: (word.at, word.opted_out is True)):
        known = _learn_one(known, word)
    return known


def merged(one: Learnt, other: Learnt, *, consent: bool = True) -> Learnt:
    """What is known of somebody who turns out to be both; without `consent`, what the other allows doesn't count."""
    at = other.opt_changed_at
    words = [Word(at, opted_out=other.opted_out, by=other.opted_by)] if at is not None else []
    words += [Word(_at(second), fact=fact) for fact, second in other.facts.items()]
    words += [
        Word(_at(entry.at), preferences={group: {name: entry.wanted}})
        for group, entries in other.preferences.items()
        for name, entry in entries.items()
    ]
    both = learn(one, words if consent else map(without_consent, words))
    return replace(both, opted_out=True) if _opted_out_some_time(one) or _opted_out_some_time(other) else both


def without_consent(word: Word) -> Word:
    """The word without what it allows: for somebody who may not be the one it is about."""
    refused = {
        group: {name: wanted for name, wanted in entries.items() if not wanted}
        for group, entries in word.preferences.items()
    }
    return replace(word, opted_out=word.opted_out or None, preferences=refused)


def _learn_one(known: Learnt, word: Word) -> Learnt:
    opted_out, opt_changed_at, opted_by = known.opted_out, known.opt_changed_at, known.opted_by
    says_nothing_new = word.by == "own" and word.opted_out == opted_out
    if word.opted_out is not None and not says_nothing_new and _newer(word.at, word.opted_out, opt_changed_at):
        opted_out, opt_changed_at, opted_by = word.opted_out, word.at, word.by
    second = int(word.at.timestamp())
    facts = known.facts
    if word.fact is not None and second > facts.get(word.fact, -1):
        facts = {**facts, word.fact: second}
    preferences = known.preferences
    for group, entries in word.preferences.items():
        if entries:
            merged = _preferences(preferences.get(group, {}), entries, second)
            preferences = {**preferences, group: merged}
    return Learnt(opted_out, opt_changed_at, facts, preferences, opted_by)


def _opted_out_some_time(known: Learnt) -> bool:
    """Nobody said when, as it may be where SQL wrote it: then nothing is known to be newer."""
    return known.opted_out and known.opt_changed_at is None


def _at(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def _newer(at: datetime, opted_out: bool, known_at: datetime | None) -> bool:
    return known_at is None or at > known_at or (at == known_at and opted_out)


def _preferences(known: Mapping[str, Preference], entries: Mapping[str, bool], second: int) -> Mapping[str, Preference]:
    merged = dict(known)
    for name, wanted in entries.items():
        before = merged.get(name)
        if before is None or second > before.at or (second == before.at and not wanted):
            merged[name] = Preference(wanted, second)
    return merged
