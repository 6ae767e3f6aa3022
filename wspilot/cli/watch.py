"""`--watch`: a reading verb again and again, the plain twin of a view of the terminal interface."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from wspilot.cli.parse import Args
from wspilot.errors import NoDaemon

GATHER_S = 0.5  # many changes, one picture
TICK_S = 10.0  # and one without any, for the times that it shows
HOME_AND_CLEAR = "\x1b[H\x1b[2J"


def watch(args: Args, method: str, params: Mapping[str, Any], draw: Callable[[Any], str]) -> int:
    """Print what `method` answers after every change, until interrupted. Raises WspilotError."""
    import asyncio

    from wspilot.cli.verbs import home_of
    from wspilot.client import Client

    async def show(client: Client) -> None:
        doc = await client.call(method, **params)
        screen = sys.stdout.isatty() and not args.json
        text = json.dumps(doc) if args.json else draw(doc)
        print(HOME_AND_CLEAR + text if screen else text, flush=True)

    async def follow() -> None:
        client = await Client.open(home_of(args))
        changed = asyncio.Event()

        async def listen() -> None:
            try:
                async for _ in client.subscribe():
                    changed.set()
            finally:
                changed.set()

        listening = asyncio.ensure_future(listen())
        try:
            while not listening.done():
                changed.clear()
                await show(client)
                await asyncio.sleep(GATHER_S)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), TICK_S)
            await listening
        finally:
            listening.cancel()
            await client.close()

    asyncio.run(follow())
    raise NoDaemon("the daemon ended", "start it again: wspilot daemon --detach")
