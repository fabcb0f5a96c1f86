"""When what could not be delivered is tried again."""

from __future__ import annotations

_FIRST = 10.0
_LAST = 3600.0
_SPREAD = 0.2


def seconds(attempts_so_far: int, chance: float) -> float:
    """Until the next try: doubles from ten seconds to an hour. `chance`, from 0 to 1, moves it by up to a fifth, so
    that an outage does not end in one burst."""
    doubled: float = _FIRST * 2 ** min(attempts_so_far, 16)
    return min(doubled, _LAST) * (1 - _SPREAD + 2 * _SPREAD * chance)
