"""Logging: readable on a terminal, JSON otherwise; never personal data unless the settings allow it.

Log calls name an event in snake_case and give values by name. Values under the names in `_PERSONAL` are masked
unless `log.personal_data` is on; what a log call must never be given at all is a secret or a body.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

HIDDEN = "…"  # stands for what isn't told unless `log.personal_data` is on
_PERSONAL = frozenset({"user_id", "customer_id", "external_id", "email", "message", "value"})
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def get(name: str) -> FilteringBoundLogger:
    """The logger of a module; follows `configure` whenever that is called."""
    return cast("FilteringBoundLogger", structlog.get_logger(component=name))


def configure(level: str, form: str, *, personal_data: bool, stream: TextIO | None = None) -> None:
    """`form` is auto, text or json; logs go to stderr, because stdout is for results."""
    out = stream if stream is not None else sys.stderr
    readable = form == "text" or (form == "auto" and out.isatty())
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not personal_data:
        processors.append(_mask)
    if readable:
        # The default renderer of exceptions prints local variables, and those hold people's data.
        processors.append(
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=24
            )
        )
    else:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )


def _mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for name in _PERSONAL & event.keys():
        event[name] = HIDDEN if event[name] is not None else None
    return event
