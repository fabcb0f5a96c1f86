"""One thing that is not as it has to be, and the kinds of them."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["lost", "doubled", "out_of_order", "wrong", "crashed"]

KINDS: tuple[Kind, ...] = ("lost", "doubled", "out_of_order", "wrong", "crashed")


class Case(NamedTuple):
    """`what` is a word of `comparing`; `who` is a user, an event or a process, all of them made up."""

    kind: Kind
    what: str
    who: str
    detail: str = ""
