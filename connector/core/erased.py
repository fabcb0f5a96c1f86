"""Whether something that arrives is about a person who was erased, by what named them (`store/kept_out`).

A message or row carries identifiers, and the strongest that says something decides, as it always does:

    it was an erased person's       it is about them, and not taken
    it names a user who is here     it is that user's; weaker ones that were an erased person's are left out of it
    nobody is known by it           the next one is asked; when none is left, it is about somebody new

An anonymous id counts only where nothing stronger is given: the device may be somebody else's by now.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from connector.records import EventRow, Identifier, Message, User, UserRow

ERASED = "erased"  # the reason word

_SHORTEST = 4  # characters: in a text, less may be anything
_PART_OF_A_WORD = r"[\w@.+-]"

Named = TypeVar("Named", Message, UserRow, EventRow)


def names(user: User, customer_id: str | None) -> list[Identifier]:
    """What names a user here, or would at Customer.io."""
    found = []
    if user.external_id:
        found.append(Identifier("external_id", user.external_id))
    if user.email:
        found.append(Identifier("email", user.email.lower()))
    if customer_id is not None:
        found.append(Identifier("customer_id", customer_id))
    return found


def is_about(
    said: Sequence[Identifier], kept_out: Collection[Identifier], is_somebody: Callable[[Identifier], bool]
) -> bool:
    """Whether what carries these identifiers, the strongest first, is about a person who was erased."""
    for index, each in enumerate(said):
        if each in kept_out:
            if index == 0 or each.kind != "anonymous_id":
                return True
        elif is_somebody(each):
            return False
    return False


def without(named: Named, kept_out: Collection[Identifier]) -> Named:
    """A message or row of somebody else, without the address and the device of an erased person."""
    if not kept_out:
        return named
    if named.email is not None and Identifier("email", named.email.lower()) in kept_out:
        named = replace(named, email=None)
    if named.anonymous_id is not None and Identifier("anonymous_id", named.anonymous_id) in kept_out:
        named = replace(named, anonymous_id=None)
    return named


def pattern(values: Iterable[str]) -> re.Pattern[str] | None:
    """Finds these values as words of a text, for what can't be read in any better way; None when all are too short."""
    words = [re.escape(each) for each in sorted(set(values)) if len(each) >= _SHORTEST]
    if not words:
        return None
    return re.compile(f"(?<!{_PART_OF_A_WORD})(?:{'|'.join(words)})(?!{_PART_OF_A_WORD})", re.IGNORECASE)
