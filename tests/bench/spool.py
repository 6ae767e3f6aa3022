"""Latency from a renamed notification to its event at a subscriber (budget: 20 ms p99 at 500/s)."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path

from tests.bench.measure import Sample, machine, show
from tests.bench.site import bench_site
from wspilot.client import Client
from wspilot.messages import NEW, Kind, Notification, rfc3339, seal

RATE, COUNT = 500, 2000


def run() -> None:
    """Print the table."""
    with bench_site() as site:
        ws = site.call("deploy", type="small", count=1, duration="10m")["workspace"]
        site.call("wait", id=ws["id"], **{"for": "active", "timeout_s": 60})
        slot = ws["slots"][0]["id"]
        taken = asyncio.run(measure(site.home, slot, RATE, COUNT))
        site.call("destroy", ids=[ws["id"]])
        site.call("wait", id=ws["id"], **{"for": "ended", "timeout_s": 60})
    ordered = sorted(taken)
    show(f"file renamed -> event at a subscriber, {RATE}/s", [Sample("latency", tuple(taken))])
    print(f"  p99 {ordered[int(len(ordered) * 0.99)] * 1e3:.1f} ms of {len(ordered)} [{machine()}]")


async def measure(home: Path, slot: str, rate: int, count: int) -> list[float]:
    """Seconds from rename to event for `count` notifications, as a new pilot of that slot."""
    client = await Client.open(home)
    sent: dict[str, float] = {}
    taken: list[float] = []
    pilot = str(uuid.uuid4())
    ready = asyncio.Event()

    async def listen() -> None:
        async for update in client.subscribe():
            now = time.perf_counter()
            ready.set()
            for item in update.changed:
                begun = sent.pop(item.get("text", ""), None)
                if begun is not None:
                    taken.append(now - begun)
            if len(taken) >= count:
                return

    listener = asyncio.create_task(listen())
    await asyncio.wait_for(ready.wait(), 10)
    await asyncio.sleep(0.5)
    key = bytes.fromhex((home / "spool/slots" / slot / "key").read_text())
    begin = time.perf_counter()
    for n in range(1, count + 1):
        await asyncio.sleep(max(0.0, begin + n / rate - time.perf_counter()))
        _write(home / "spool", key, slot, n, sent, pilot)
    await asyncio.wait_for(listener, 60)
    await client.close()
    return taken


def _write(spool: Path, key: bytes, slot: str, n: int, sent: dict[str, float], pilot: str) -> None:
    text = f"bench {pilot[:8]} {n}"
    data = {"level": "info", "text": text}
    note = Notification(slot, "bench", pilot, 1, n, Kind.LOG, rfc3339(time.time()), 1.0, data)
    temporary = spool / "tmp" / f"bench{n}"
    temporary.write_bytes(seal(NEW, key, note.body()))
    sent[text] = time.perf_counter()
    temporary.rename(spool / "new" / note.file_name(time.time_ns()))
