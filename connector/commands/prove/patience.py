"""Waiting for what the connectors have to do, with an end: who ended by itself is started again, and named."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from connector.commands.prove import killing
from connector.commands.prove.cases import Case
from connector.commands.prove.options import Wanted
from connector.commands.prove.processes import Child

_LOOK_AGAIN = 0.2


async def acknowledged(
    what: str,
    children: Sequence[Child],
    wanted: Wanted,
    seconds: float,
    look: Callable[[], Awaitable[tuple[bool, object]]],
) -> list[Case]:
    """Until `look` says that all of it is acknowledged; beside that it says how far it has come. It is given up, and is
    a case, once it has come no further for so many `seconds`. `what` is in words."""
    cases: list[Case] = []
    moved_at, last = time.monotonic(), None
    while True:
        cases += killing.start_again(children, wanted)
        is_done, so_far = await look()
        if is_done:
            return cases
        if so_far != last:
            moved_at, last = time.monotonic(), so_far
        elif time.monotonic() - moved_at > seconds:
            return [*cases, Case("lost", "not_acknowledged", "", f"{what}: no further than {so_far}")]
        await asyncio.sleep(_LOOK_AGAIN)
