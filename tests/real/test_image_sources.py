"""Images from a shared filesystem: read once for eight nodes, counted at its server; and a
filesystem that hangs holds up no pilot. Needs bindfs, fuse3, /dev/fuse and the right to mount."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.hungfs import hung
from tests.unit.node.imageyard import Nodes, disk, ground, image
from wspilot.errors import WspilotError
from wspilot.node.images import Images

HANG_S = 30.0
pytestmark = pytest.mark.real


@contextlib.contextmanager
def shared(source: Path, place: Path) -> Iterator[int]:
    """`place` shows `source` through a server of its own; its pid. No page cache between, so that
    every read of a node is a read of the server, as from different hosts."""
    place.mkdir()
    argv = ["bindfs", "-f", "-o", "direct_io", str(source), str(place)]
    server = subprocess.Popen(argv, stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + 10
        while not place.is_mount():
            assert time.monotonic() < end and server.poll() is None, "bindfs does not mount"
            time.sleep(0.02)
        yield server.pid
    finally:
        tool = shutil.which("fusermount3") or "umount"
        subprocess.run([tool, *(["-u"] if "fusermount" in tool else []), str(place)], timeout=10)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(10)


def read_by(pid: int) -> int:
    """Bytes that a process has read so far."""
    fields = Path(f"/proc/{pid}/io").read_text().split()
    return int(fields[fields.index("rchar:") + 1])


@pytest.mark.parametrize(("share", "least", "most"), [(True, 1.0, 2.0), (False, 7.9, 9.0)])
async def test_eight_nodes_read_a_shared_filesystem_at_most_twice(
    tmp_path: Path, share: bool, least: float, most: float
) -> None:
    """Without sharing the same count gives eight: the count counts."""
    data = disk(tmp_path / "source" / "d", 8)
    with shared(tmp_path / "source", tmp_path / "shared") as server:
        nodes = Nodes(tmp_path, 8, share=share)
        before = read_by(server)
        got = await nodes.propagate(image(str(tmp_path / "shared" / "d"), data))
        times = (read_by(server) - before) / len(data)
        for one in got:
            assert Path(one["disk"]).read_bytes() == data
        await nodes.close()
    assert least <= times <= most, f"{times:.2f} x its bytes"


async def test_a_hung_filesystem_holds_up_nothing(tmp_path: Path) -> None:
    node = Images(ground(tmp_path / "node", "n1"))
    asked = image(str(tmp_path / "hung" / "d"), b"x" * 512)
    with hung(tmp_path / "hung"):
        work = asyncio.ensure_future(node.propagate("vm1", asked, print))
        late = 0.0
        for _ in range(50):
            before = time.monotonic()
            await asyncio.sleep(0.01)
            late = max(late, time.monotonic() - before)
        assert not work.done() and late < HANG_S, "the loop goes on"
        pid = int(node._ground.journal.entries["image:vm1"]["pid"])
        began = time.monotonic()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert time.monotonic() - began < HANG_S
        assert dict(node._ground.journal.entries) == {}
    for _ in range(400):  # it was to die as soon as the kernel lets it, and is reaped
        if not Path(f"/proc/{pid}").exists():
            break
        await asyncio.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    await node.close()
    assert not list((tmp_path / "node" / "keep").glob("**/images"))


async def test_a_filesystem_that_is_not_there_says_so(tmp_path: Path) -> None:
    node = Images(ground(tmp_path / "node", "n1"))
    with pytest.raises(WspilotError, match="as seen from this node"):
        await node.propagate("vm1", image("/nowhere/d", b"x" * 512), print)
    await node.close()
