"""What `check` finds: a line for each thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "fault"]


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at."""

    level: Level
    about: str
    message: str
