"""How the process ends: SIGTERM, or SIGINT, asks it to; the second one, or too long a time, ends it as it is.

What is not recorded then is due again when its lease runs out: sent twice, and in effect once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable

from connector import log

# Less than the 30 seconds that Kubernetes gives, and far less than systemd's 90.
LONGEST = 28.0

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_log = log.get("connector")


def on_signals(stop: Callable[[], None]) -> None:
    """Calls `stop` at the first signal, in the running loop, and sees to it that the process ends."""
    loop = asyncio.get_running_loop()
    for name in _SIGNALS:
        loop.add_signal_handler(name, _asked, stop, name)


def on_hangup(read_again: Callable[[], None]) -> None:
    """Calls `read_again` at each SIGHUP, in the running loop, where others would end."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, read_again)


def _asked(stop: Callable[[], None], name: signal.Signals) -> None:
    loop = asyncio.get_running_loop()
    for each in _SIGNALS:
        loop.add_signal_handler(each, _end, 128 + each, "asked_again")
    # A thread, because what takes too long may be the loop itself.
    timer = threading.Timer(LONGEST, _end, (128 + name, "took_too_long"))
    timer.daemon = True
    timer.start()
    stop()


def _end(status: int, reason: str) -> None:
    _log.warning("stopped_at_once", reason=reason)
    os._exit(status)
