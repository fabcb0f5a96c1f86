"""Telling the connector what a product would: messages to /v1/batch, said until they are acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

import aiohttp
import msgspec

from connector import errors

_TRY_AGAIN_SECONDS = 0.2
_ANSWER_SECONDS = 10.0


class Intake:
    """A context manager; `url` is the connector's. One message's id stays the same however often it is said."""

    def __init__(self, url: str, write_key: str) -> None:
        self._url = f"{url}/v1/batch"
        self._write_key = write_key

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            auth=aiohttp.BasicAuth(self._write_key), timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def say(self, messages: Sequence[dict[str, object]]) -> None:
        """Returns once all are acknowledged. Raises Failed when one was refused."""
        body = msgspec.json.encode({"batch": messages})
        await until(lambda: self._post(body))

    async def _post(self, body: bytes) -> bool:
        """Whether it was acknowledged."""
        try:
            async with self._session.post(self._url, data=body) as response:
                said = await response.text()
                if response.status == 200 and msgspec.json.decode(said) == {"success": True}:
                    return True
                if response.status < 500:
                    raise errors.Failed(f"the intake refused a message: {response.status} {said[:500]}")
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
        return False


async def until(done: Callable[[], Awaitable[bool]]) -> None:
    """Tries again, with a pause, until it is done."""
    while True:
        if await done():
            return
        await asyncio.sleep(_TRY_AGAIN_SECONDS)
