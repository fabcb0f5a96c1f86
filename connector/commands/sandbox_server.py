"""`connector sandbox`: the local Customer.io as a server, until it is stopped."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

from rich.console import Console

from connector.sandbox import state, track_api


async def serve(
    *, host: str, port: int, site_id: str, api_key: str, region: Literal["us", "eu"], console: Console
) -> None:
    """Serves until cancelled; says how to point a connector at it."""
    application = track_api.create_app(state.State(time.time), site_id=site_id, api_key=api_key, region=region)
    async with track_api.serve(application, host, port) as running:
        console.print(f"a local Customer.io ({region}) at {running.url}; what it holds: {running.url}/sandbox")
        console.print("point a connector at it:", style="dim")
        console.print(
            f'  [customerio]\n  site_id = "{site_id}"\n  api_key = "env:…"  # {api_key}\n'
            f'  region = "{region}"\n  track_url = "{running.url}"',
            style="dim",
            markup=False,
            highlight=False,
        )
        await asyncio.Event().wait()
