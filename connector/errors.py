"""Errors, grouped by what the caller should do about them.

Expected results of a call to Customer.io are not errors, they are values (`core/outcome`).
"""

from __future__ import annotations

from dataclasses import dataclass


class ConnectorError(Exception):
    """Anything that the connector itself raises on purpose; its text is for the person at the keyboard."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a file: where (a TOML path and a line, counted from 1) and what to do."""

    path: str
    line: int | None
    message: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line is not None else ""
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


class Misconfigured(ConnectorError):
    """Stop and tell the admin how to mend it. Exit status 2."""

    def __init__(self, message: str, faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.faults = faults

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  {fault}" for fault in self.faults)])


class StoreBehind(Misconfigured):
    """The store's schema is older (or newer) than this version knows."""


class StoreInUse(Misconfigured):
    """Another connector runs on a store that takes one."""


class Failed(ConnectorError):
    """The command was understood and could not be done. Exit status 1."""


class Refused(ConnectorError):
    """Input that can't be taken: `code` is a stable word, the text says what to do. HTTP 4xx."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class Unavailable(ConnectorError):
    """Try again later, in `retry_after` seconds. HTTP 503."""

    def __init__(self, code: str, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after
