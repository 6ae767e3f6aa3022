"""Images on their way to nodes: one transfer, one reader of the source, nothing half trusted."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.node.imageyard import Nodes, Web, disk, ground, image, stopped
from tests.unit.qcow2s import header
from wspilot.errors import WspilotError
from wspilot.node.images import Images, talk, undo
from wspilot.node.images.cache import Cache
from wspilot.node.images.source import ssh_argv
from wspilot.node.vmm.stale import start_time


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Images]:
    one = Images(ground(tmp_path / "node", "n1"))
    yield one
    await one.close()


def left(one: Images) -> list[str]:
    """What lies in the cache."""
    place = one._cache.place
    return sorted(path.name for path in place.iterdir()) if place.is_dir() else []


async def until(so: Callable[[], bool]) -> None:
    for _ in range(2000):
        if so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("never so")


async def refused(one: Images, asked: dict[str, Any]) -> str:
    with pytest.raises(WspilotError) as caught:
        await asyncio.wait_for(one.propagate("vm1", asked, lambda done: None), 30)
    assert left(one) == [], "nothing of it is kept"
    assert dict(one._ground.journal.entries) == {}
    return caught.value.message


# -- one node


async def test_a_file_is_here_once_verified_and_read_only(node: Images, tmp_path: Path) -> None:
    data = disk(tmp_path / "d")
    told: list[float] = []
    got = await node.propagate("vm1", image(str(tmp_path / "d"), data), told.append)
    path, sha = Path(got["disk"]), hashlib.sha256(data).hexdigest()
    assert path.name == sha and path.read_bytes() == data and left(node) == [sha]
    assert path.stat().st_mode & 0o777 == 0o400 and told[-1] == 1.0
    (tmp_path / "d").unlink()  # from now on nobody asks the source
    again = await node.propagate("vm2", image(str(tmp_path / "d"), data), told.append)
    assert again["disk"] == got["disk"]


async def test_an_image_without_files_goes_through(node: Images) -> None:
    got = await node.propagate("vm1", {"name": "sim", "kind": "sim", "files": {}}, print)
    assert got["name"] == "sim" and left(node) == []


async def test_two_pilots_of_one_node_make_one_transfer(tmp_path: Path) -> None:
    data = disk(tmp_path / "d", 4)
    with Web({"/d": data}, pace_s=0.02) as web:
        pilots = [Images(ground(tmp_path / "node", "n1")) for _ in range(3)]
        asked = image(f"{web.url}/d", data)
        told: list[float] = []
        work = [one.propagate("vm1", asked, told.append) for one in pilots]
        paths = {got["disk"] for got in await asyncio.gather(*work)}
        assert len(paths) == 1 and web.sent == len(data) and len(web.requests) == 1
        assert any(0 < one < 1 for one in told), "those who wait see how far it is"
        for one in pilots:
            await one.close()


async def test_a_copy_that_was_written_to_is_not_used(node: Images, tmp_path: Path) -> None:
    data = disk(tmp_path / "d")
    asked = image(str(tmp_path / "d"), data)
    path = Path((await node.propagate("vm1", asked, print))["disk"])
    node.release("vm1")
    path.chmod(0o600)
    path.write_bytes(b"x" * len(data))
    got = await node.propagate("vm2", asked, print)
    assert Path(got["disk"]).read_bytes() == data, "fetched anew"
    node.release("vm2")
    os.utime(path)  # touched, and not changed: hashed again, and kept
    (tmp_path / "d").unlink()
    assert (await node.propagate("vm3", asked, print))["disk"] == str(path)


async def test_what_nobody_uses_is_evicted_by_age_and_what_a_vm_uses_never(tmp_path: Path) -> None:
    node = Images(ground(tmp_path / "node", "n1", cache_mib=3))
    names = []
    for n in range(4):
        data = disk(tmp_path / f"d{n}", 1)
        got = await node.propagate(f"vm{n}", image(str(tmp_path / f"d{n}"), data), print)
        names.append(Path(got["disk"]).name)
    assert set(left(node)) == set(names), "all four are used, and may be beyond the cap"
    for vm in ("vm2", "vm0", "vm3"):
        node.release(vm)
        os.utime(node._cache.path(names[int(vm[2])]), ns=(time.time_ns(), _mtime(node, names, vm)))
    data = disk(tmp_path / "d5", 1)
    await node.propagate("vm5", image(str(tmp_path / "d5"), data), print)
    kept = set(left(node))
    assert names[1] in kept, "held"
    assert names[2] not in kept and names[0] not in kept, "the least lately used go first"
    assert names[3] in kept and len(kept) == 3
    await node.close()


def _mtime(node: Images, names: list[str], vm: str) -> int:
    return node._cache.path(names[int(vm[2])]).stat().st_mtime_ns


async def test_an_image_that_the_disk_cannot_hold_is_refused(node: Images, tmp_path: Path) -> None:
    data = disk(tmp_path / "d")
    asked = image(str(tmp_path / "d"), data)
    asked["files"]["disk"]["bytes"] = 1 << 45
    assert "MiB free" in await refused(node, asked)


# -- bad sources


async def test_wrong_digests_and_sizes_are_refused_in_words(node: Images, tmp_path: Path) -> None:
    data = disk(tmp_path / "d")
    good = image(str(tmp_path / "d"), data)
    (tmp_path / "d").write_bytes(data[:-512])
    assert "is truncated: it has" in await refused(node, good)
    (tmp_path / "d").write_bytes(data + bytes(512))
    assert "was changed: it has" in await refused(node, good)
    (tmp_path / "d").write_bytes(bytes(512) + data[512:])
    assert "another SHA-256 than" in await refused(node, good)
    (tmp_path / "d").unlink()
    assert "is not there, as seen from this node" in await refused(node, good)
    os.mkfifo(tmp_path / "d")
    assert "no regular file" in await refused(node, good)
    with Web({"/short": data[:-512], "/long": data + b"x", "/other": bytes(len(data))}) as web:
        bad = {"/short": "is truncated", "/long": "was changed", "/other": "another SHA-256",
               "/none": "the server says 404"}  # fmt: skip
        for path, says in bad.items():
            asked = image(f"{web.url}{path}", data)
            assert says in await refused(node, asked)
    assert "cannot be reached" in await refused(node, image(f"{web.url}/d", data))
    assert "is no place to fetch" in await refused(node, image("ftp://x/y", data))
    assert "is not ssh://" in await refused(node, image("ssh://-oProxyCommand=x/y", data))


async def test_a_disk_that_names_other_files_is_refused_though_its_digest_fits(
    node: Images, tmp_path: Path
) -> None:
    for hostile, says in (
        (header(backing=b"/etc/shadow"), "has a backing file"),
        (header(incompatible=4), "external data file"),
        (header(whole=False), "truncated"),
        (b"no qcow2".ljust(4096, b"\0"), "is not a qcow2"),
    ):
        (tmp_path / "d").write_bytes(hostile)
        assert says in await refused(node, image(str(tmp_path / "d"), hostile, "qcow2"))


BAD_FILES: dict[str, Any] = {
    "files are no table": [1],
    "which nobody knows": {"../x": {}},
    "has no SHA-256: 'AB'": {"disk": {"path": "/x", "sha256": "AB", "bytes": 1}},
    "has no SHA-256": {"disk": {"path": "/x", "sha256": "../../etc/passwd", "bytes": 1}},
    "lies at None": {"disk": {"sha256": "ab" * 32, "bytes": 1}},
    "lies at '/a": {"disk": {"path": "/a\nb", "sha256": "ab" * 32, "bytes": 1}},
    "is -1 bytes": {"disk": {"path": "/x", "sha256": "ab" * 32, "bytes": -1}},
    "has format 'vmdk'": {"disk": {"path": "/x", "sha256": "ab" * 32, "bytes": 1}},
}


@pytest.mark.parametrize("says", BAD_FILES)
async def test_a_command_that_names_no_files_properly_is_refused(node: Images, says: str) -> None:
    asked = {"name": "i", "format": "vmdk", "files": BAD_FILES[says]}
    assert says in await refused(node, asked)


def test_the_far_shell_sees_one_word() -> None:
    argv = ssh_argv("ssh://ann@host:2200/a b;$(id)'x", 7)
    assert argv[-2:] == ["ann@host", "tail -c +8 -- '/a b;$(id)'\"'\"'x'"]
    assert argv[argv.index("-p") + 1] == "2200" and "BatchMode=yes" in argv
    assert ssh_argv("ssh://h/x", 0)[-1] == "cat -- /x"


async def test_ssh_is_asked_as_a_list_and_its_failure_is_told(
    node: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = disk(tmp_path / "d")
    fake = tmp_path / "bin" / "ssh"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    got = await node.propagate("vm1", image(f"ssh://host{tmp_path}/d", data), print)
    assert Path(got["disk"]).read_bytes() == data
    node.release("vm1")
    Path(got["disk"]).unlink()
    fake.write_text("#!/bin/sh\necho 'Host key verification failed.' >&2\nexit 255\n")
    said = await refused(node, image(f"ssh://host{tmp_path}/d", data))
    assert "ssh: Host key verification failed" in said and "truncated" not in said
    fake.write_text("#!/bin/sh\nexit 255\n")
    assert "ssh: code 255" in await refused(node, image(f"ssh://host{tmp_path}/d", data))
    fake.write_text(f"#!/bin/sh\nhead -c 1000 {tmp_path}/d\nexit 1\n")  # lost in its middle
    assert "ssh: code 1" in await refused(node, image(f"ssh://host{tmp_path}/d", data))
    fake.write_text(f"#!/bin/sh\nhead -c 1000 {tmp_path}/d\n")
    said = await refused(node, image(f"ssh://host{tmp_path}/d", data))
    assert "is truncated: it has 1000 bytes" in said, "ssh is content: then it is the file"


# -- its end


async def test_a_transfer_dies_with_its_vm_and_leaves_nothing(node: Images, tmp_path: Path) -> None:
    data = disk(tmp_path / "d", 4)
    with Web({"/d": data}, pace_s=0.3) as web:
        begun = asyncio.Event()
        work = asyncio.ensure_future(
            node.propagate("vm1", image(f"{web.url}/d", data), lambda done: begun.set())
        )
        await until(lambda: bool(left(node)) and bool(node._ground.journal.entries))
        pid = node._ground.journal.entries["image:vm1"]["pid"]
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        assert not Path(f"/proc/{pid}").exists() and left(node) == []
        assert dict(node._ground.journal.entries) == {}


async def test_a_source_that_hangs_holds_up_nobody(node: Images, tmp_path: Path) -> None:
    """A server that says nothing stands for a filesystem that does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/d"
        ticks = 0
        work = asyncio.ensure_future(node.propagate("vm1", image(url, b"x" * 512), print))
        for _ in range(20):
            await asyncio.sleep(0.01)
            ticks += 1
        assert ticks == 20 and not work.done()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(work, 0.1)
        assert left(node) == []


async def test_its_journal_entry_is_enough_to_end_it(tmp_path: Path) -> None:
    """As a guardian does it when the pilot was killed."""
    node = Images(ground(tmp_path / "node", "n1"))
    data = disk(tmp_path / "d", 4)
    with Web({"/d": data}, pace_s=0.3) as web:
        work = asyncio.ensure_future(
            node.propagate("vm1", image(f"{web.url}/d", data), lambda done: None)
        )
        await until(lambda: any(name.endswith(".part") for name in left(node)))
        entry = node._ground.journal.entries["image:vm1"]
        other = {**entry, "start": entry["start"] + 1}
        assert undo(other) == "" and start_time(entry["pid"]) == entry["start"], "not that one"
        assert undo(entry) == "an image's transfer ended"
        with pytest.raises(WspilotError, match="without a word"):
            await work
        assert left(node) == []
    await node.close()


# -- several nodes


@pytest.mark.parametrize("pace_s", [0.0, 0.02])
async def test_eight_nodes_take_the_source_once(tmp_path: Path, pace_s: float) -> None:
    data = disk(tmp_path / "d", 8)
    with Web({"/d": data}, pace_s) as web:
        nodes = Nodes(tmp_path, 8)
        got = await nodes.propagate(image(f"{web.url}/d", data))
        for one in got:
            assert Path(one["disk"]).read_bytes() == data
        assert len({one["disk"] for one in got}) == 8, "each in a cache of its own"
        assert len(data) <= web.sent <= 2 * len(data)
        await nodes.close()


async def test_nodes_that_may_not_share_all_go_to_the_source(tmp_path: Path) -> None:
    """The negative control of the count above."""
    data = disk(tmp_path / "d", 1)
    with Web({"/d": data}) as web:
        nodes = Nodes(tmp_path, 4, share=False)
        assert not any(nodes.peers.values())
        await nodes.propagate(image(f"{web.url}/d", data))
        assert web.sent == 4 * len(data)
        await nodes.close()


async def test_a_node_that_comes_later_is_fed_by_its_sisters(tmp_path: Path) -> None:
    data = disk(tmp_path / "d", 1)
    with Web({"/d": data}) as web:
        nodes = Nodes(tmp_path, 3)
        asked = image(f"{web.url}/d", data)
        for one in nodes.all:
            one.peers(nodes.peers)
            await one.propagate("vm1", asked, lambda done: None)
        assert len(data) <= web.sent <= 2 * len(data)
        await nodes.close()


async def test_when_the_reader_dies_another_goes_on(tmp_path: Path) -> None:
    data = disk(tmp_path / "d", 8)
    sha = hashlib.sha256(data).hexdigest()
    with Web({"/d": data}, pace_s=0.15) as web:
        nodes = Nodes(tmp_path, 4)
        for one in nodes.all:
            one.peers(nodes.peers)
        asked = image(f"{web.url}/d", data)
        work = [asyncio.ensure_future(one.propagate("vm1", asked, print)) for one in nodes.all]

        def sizes() -> list[int]:
            parts = [one._cache.part(sha) for one in nodes.all]
            return [part.stat().st_size if part.exists() else 0 for part in parts]

        await until(lambda: all(sizes()))
        doing = [one._cache.doing(sha) for one in nodes.all]
        assert sorted(doing) == [b"r", b"r", b"r", b"s"]
        reader = doing.index(b"s")
        work[reader].cancel()
        got = await asyncio.gather(*work, return_exceptions=True)
        for n, one in enumerate(got):
            if n != reader:
                assert not isinstance(one, BaseException), repr(one)
                assert Path(one["disk"]).read_bytes() == data
        assert web.sent <= 2 * len(data), web.requests
        await nodes.close()


async def test_a_sister_that_stands_still_is_left_for_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk, "ANSWER_S", 0.3)
    data = disk(tmp_path / "d", 1)
    with Web({"/d": data}) as web:
        nodes = Nodes(tmp_path, 2)
        for one in nodes.all:
            one.peers(nodes.peers)
        with stopped(nodes.all[0]._server):
            got = await nodes.all[1].propagate("vm1", image(f"{web.url}/d", data), print)
        assert Path(got["disk"]).read_bytes() == data and web.sent == len(data)
        await nodes.close()


async def test_a_damaged_sister_costs_a_second_try_and_no_more(tmp_path: Path) -> None:
    data = disk(tmp_path / "d", 1)
    nodes = Nodes(tmp_path, 2)
    asked = image(str(tmp_path / "d"), data)
    for one in nodes.all:
        one.peers(nodes.peers)
    path = Path((await nodes.all[0].propagate("vm1", asked, print))["disk"])
    path.chmod(0o600)
    path.write_bytes(bytes(len(data)))
    got = await nodes.all[1].propagate("vm1", asked, print)
    assert Path(got["disk"]).read_bytes() == data
    await nodes.close()


async def test_a_stranger_gets_nothing(tmp_path: Path) -> None:
    data = disk(tmp_path / "d", 1)
    nodes = Nodes(tmp_path, 2)
    await nodes.propagate(image(str(tmp_path / "d"), data))
    where = ("127.0.0.1", nodes.peers["n0"]["cache"]["port"])
    sha = hashlib.sha256(data).hexdigest()
    mine = talk.ask(where, bytes.fromhex("ab" * 32), "GET", sha)
    assert mine is not None and mine[0].state == talk.HAVE
    mine[1].close()
    assert talk.ask(where, b"another workspace", "GET", sha) is None
    for raw in (b"GET / HTTP/1.0\r\n\r\n", b"\xff" * 1000, b"ASK x\n"):
        with socket.create_connection(where, 20) as channel:
            assert len(channel.recv(100)) == 33
            channel.sendall(raw)
            channel.settimeout(20)
            with contextlib.suppress(ConnectionResetError):
                assert channel.recv(100) == b""
    with socket.create_connection(where, 20) as channel:  # all but the key is right
        theirs = channel.recv(33).decode().strip()
        one = talk.Question("GET", sha, 0, talk.nonce())
        channel.sendall(talk.question_line(b"another workspace", theirs, one))
        channel.settimeout(20)
        assert channel.recv(100) == b""
    again = talk.ask(where, bytes.fromhex("ab" * 32), "ASK", sha)
    assert again is not None, "and the others are still served"
    again[1].close()
    await nodes.close()


async def test_a_recorded_question_is_not_answered_again(tmp_path: Path) -> None:
    key = b"k"
    one = talk.Question("GET", "ab" * 32, 0, talk.nonce())
    line = talk.question_line(key, "1" * 32, one)
    assert talk.read_question(key, "1" * 32, line) == one
    assert talk.read_question(key, "2" * 32, line) is None, "another connection"
    assert talk.read_question(b"x", "1" * 32, line) is None
    said = talk.answer_line(key, one.nonce, talk.Answer(talk.HAVE, 5, 1))
    assert talk.read_answer(key, one.nonce, said) == talk.Answer(talk.HAVE, 5, 1)
    assert talk.read_answer(key, talk.nonce(), said) is None


async def test_the_servers_end_with_their_pilots(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, 2)
    for one in nodes.all:
        one.peers(nodes.peers)
    pids = [one._server for one in nodes.all]
    assert all(pids)
    os.kill(pids[0], signal.SIGKILL)  # one that died is no harm either
    await nodes.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_parts_of_the_dead_are_swept_and_those_of_the_living_not(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1)
    mine, other = "ab" * 32, "cd" * 32
    lock = cache.lock(mine)
    assert lock is not None and cache.lock(mine) is None
    cache.part(mine).write_bytes(b"x")
    cache.part(other).write_bytes(b"x")
    cache.trim()
    assert cache.part(mine).exists() and not cache.part(other).exists()
    lock.say(b"r")
    assert cache.doing(mine) == b"r" and cache.doing(other) == b""
    lock.close()
    cache.tidy()
    assert not tmp_path.exists()
