"""The live channel: from `destroy` to its events at a subscriber with and without it (DESIGN.md
section 10: 350 ms and 700 ms, plus restore), and what a console costs a pilot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from tests.bench.measure import Sample, show
from tests.bench.site import BenchSite, bench_site
from wspilot.client import Client, Update

RUNS = 8
EAGER_S = 11.0  # a courier lists commands more often for 10 s after each
Times = tuple[float, float, float]


def run() -> None:
    """Print the tables."""
    taken = {on: _destroys(on) for on in (True, False)}
    for number, what in enumerate(("its VM gone", "the node's last word", "the job's end too")):
        show(
            f"destroy to {what}, at a subscriber",
            [
                Sample(f"live channel {'on' if on else 'off'}", tuple(one[number] for one in times))
                for on, times in taken.items()
            ],
        )


def _destroys(live: bool) -> list[Times]:
    with bench_site(more="" if live else "live = false") as site:
        return asyncio.run(_measure(site))


async def _measure(site: BenchSite) -> list[Times]:
    ids = []
    for _ in range(RUNS):
        doc = await asyncio.to_thread(site.call, "deploy", type="small", duration="10m")
        ids.append(doc["workspace"]["id"])
    for id in ids:
        await asyncio.to_thread(site.call, "wait", id=id, **{"for": "active", "timeout_s": 60})
    await asyncio.sleep(EAGER_S)
    client = await Client.open(site.home)
    updates = client.subscribe()
    await updates.__anext__()
    try:
        found = []
        for id in ids:
            found.append(await _destroy(client, updates, id))
            await asyncio.sleep(0.5)
        return found
    finally:
        await client.close()


async def _destroy(client: Client, updates: AsyncIterator[Update], id: str) -> Times:
    began = time.perf_counter()
    seen: dict[str, float] = {}
    await client.call("destroy", ids=[id], token=f"bench-{id}")
    async with asyncio.timeout(30):
        async for update in updates:
            for item in update.changed:
                if _step(item, id):
                    seen.setdefault(_step(item, id), time.perf_counter() - began)
            if "ended" in seen:
                break
    return seen["gone"], seen["word"], seen["ended"]


def _step(item: dict[str, Any], id: str) -> str:
    """Which step of a workspace's end an item shows; empty: none."""
    doc = item.get("doc", item)
    if doc.get("workspace") == id and doc.get("state") == "terminated":
        return "gone"
    if doc.get("workspace") == id and "batch system to confirm" in str(doc.get("waits_for")):
        return "word"
    return "ended" if doc.get("id") == id and doc.get("state") == "ended" else ""
