"""Where a VM is reached: what the daemon tells and what it refuses, and its hints to pilots."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.fake_daemon import PILOT, VM, books
from tests.unit.node.livehost import KEY, yard
from tests.unit.node.livehost import PILOT as LIVE_PILOT
from wspilot import channel
from wspilot.cli import ssh as ssh_
from wspilot.cli.link import open_link
from wspilot.cli.ssh import ssh_argv
from wspilot.config import load
from wspilot.daemon import hints as hints_
from wspilot.daemon.api import ServiceApi
from wspilot.daemon.hints import Hints
from wspilot.daemon.service import Service
from wspilot.errors import Refused, UsageError, WspilotError
from wspilot.model import VmState

LIVE = {"host": "192.0.2.1", "port": 4711}


def api(place: Path, *records: Any) -> ServiceApi:
    service = Service(load(None, place), place)
    service.books = books(*records)
    return ServiceApi(service)


async def reach(place: Path, id: str, *records: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await api(place, *records).call("reach", {"id": id}, 0))["reach"]
    return found


async def test_it_is_where_its_pilot_listens(tmp_path: Path) -> None:
    keys = tmp_path / "spool" / "slots" / VM.slot / "hostkeys"
    keys.mkdir(parents=True)
    (keys / f"{VM.id}.pub").write_text("ssh-ed25519 AAAA worker-1\n")
    pilot = replace(PILOT, facts={"live": LIVE})
    for id in ("osg/worker/1", VM.id):
        where = await reach(tmp_path, id, pilot)
        assert (where["host"], where["port"], where["pilot"]) == ("192.0.2.1", 4711, PILOT.id)
        assert where["host_key"] == "ssh-ed25519 AAAA" and where["hostname"] == "worker-1"
        assert where["key"] == str(tmp_path / "spool" / "slots" / VM.slot / "key")


@pytest.mark.parametrize("live", [None, {}, {"host": "", "port": 1}, "x", {"host": "h"}])
async def test_a_pilot_that_does_not_listen_is_said(tmp_path: Path, live: Any) -> None:
    with pytest.raises(Refused, match="no live channel"):
        await reach(tmp_path, "osg/worker/1", replace(PILOT, facts={"live": live}))


async def test_what_cannot_be_reached_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="osg has 2 VMs"):
        await reach(tmp_path, "osg")
    for change, says in (
        ({"state": VmState.TERMINATED}, "has ended"),
        ({"pilot": "", "state": VmState.PENDING}, "is pending: it has no node yet"),
    ):
        with pytest.raises(Refused, match=says):
            await reach(tmp_path, "osg/worker/1", replace(VM, **change))


# -- hints


async def test_a_hint_arrives_and_many_at_once_are_one_or_two() -> None:
    async with yard() as place:
        live = place.live.facts()["live"]
        one = Hints()
        one.tell(LIVE_PILOT, live, KEY)
        await asyncio.sleep(0)  # it is under way
        for _ in range(100):
            one.tell(LIVE_PILOT, live, KEY)
        await asyncio.wait(list(one._tasks.values()))
        assert place.host.looked == 2  # the first, and one for all that came meanwhile


@pytest.mark.parametrize(
    "live",
    [{"host": "127.0.0.1", "port": 1}, {"host": "203.0.113.1", "port": 4711}, {"host": "\0"},
     {"host": "127.0.0.1", "port": 1 << 70}, {"port": "x"}, None, [], {"host": "x" * 5000}],
    ids=lambda one: str(one)[:40],
)  # fmt: skip
async def test_a_pilot_without_a_way_to_it_costs_nobody_anything_and_is_left_alone(
    live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints_, "TELL_S", 0.2)
    one = Hints()
    began = time.monotonic()
    one.tell("p", live, KEY)
    assert time.monotonic() - began < 10, "a connection there takes two minutes to fail"
    for task in list(one._tasks.values()):
        await asyncio.wait_for(task, 20)  # it raises nothing
    one.tell("p", live, KEY)
    assert not one._tasks


async def test_who_answers_but_is_not_the_pilot_learns_nothing() -> None:
    heard = bytearray()

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"WSPILOT-LIVE 1 " + b"a" * 32 + b"\n" + b"WELCOME " + b"0" * 64 + b"\n")
        heard.extend(await reader.read(1000))
        writer.close()

    server = await asyncio.start_server(pretend, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        with pytest.raises(ValueError, match="not this slot's pilot"):
            await hints_.look(host, port, KEY, LIVE_PILOT)
    assert KEY not in heard and KEY.hex().encode() not in heard


# -- the command line's end


def where(place: Path, live: Mapping[str, Any]) -> dict[str, Any]:
    (place / "key").write_text(KEY.hex())
    return {"name": "w/n/1", "id": "v1", "node": "n1", "pilot": LIVE_PILOT, "host_key": "",
            "key": str(place / "key"), **live}  # fmt: skip


async def test_a_link_is_opened_and_a_refusal_is_told(tmp_path: Path) -> None:
    async with yard() as place:
        place.host.add("v1").write(b"hello")
        there = where(tmp_path, place.live.facts()["live"])
        link, answer, _ = await asyncio.to_thread(open_link, there, {"do": "console", "vm": "v1"})
        assert answer["others"] == 0
        link.close()
        with pytest.raises(Refused, match="w/n/1: port 80 is not forwarded here"):
            wish = {"do": "forward", "vm": "v1", "port": 80}
            await asyncio.to_thread(open_link, there, wish)
        (tmp_path / "key").write_text("00" * 32)
        with pytest.raises(WspilotError, match="n1 cannot be reached"):
            await asyncio.to_thread(open_link, there, {"do": "look"})
        (tmp_path / "key").unlink()
        with pytest.raises(WspilotError, match="the lease has ended"):
            await asyncio.to_thread(open_link, there, {"do": "look"})


def test_a_node_without_a_way_to_it_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WspilotError) as told:
        open_link(where(tmp_path, {"host": "127.0.0.1", "port": 1}), {"do": "look"})
    assert "n1 cannot be reached at 127.0.0.1:1" in told.value.message
    assert "go to a host that has a way to it" in told.value.hint


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-x\r\n"])
def test_a_guest_in_which_nothing_listens_is_said(
    said: bytes, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """ssh alone said `Connection closed by UNKNOWN port 65535`, of the small guest."""
    frames = [(channel.DATA, said)] if said else []
    given: Any = (SimpleNamespace(close=lambda: None), {}, [*frames, (channel.END, b"")])
    monkeypatch.setattr(ssh_, "reach", lambda home, id: {"name": "w/n/1", "id": "v1"})
    monkeypatch.setattr(ssh_, "open_link", lambda where, wish: given)
    args: Any = SimpleNamespace(home="/nowhere", id="v1", port=22)
    if said:
        assert ssh_.forward(args) == 0 and capfd.readouterr().out == said.decode()
        return
    with pytest.raises(WspilotError, match="w/n/1: nothing answers on port 22") as told:
        ssh_.forward(args)
    assert "wspilot console w/n/1" in told.value.hint


def test_sshs_words_survive_paths_with_blanks_quotes_and_percents(tmp_path: Path) -> None:
    """As ssh itself reads them: `ssh -G` prints what it understood."""
    home = tmp_path / "a \"b' %h 100%"
    there = {"name": "w/n/1", "id": "v1"}
    argv = ssh_argv(home, there, 22, "root", [])
    done = subprocess.run(["ssh", "-F", "none", "-G", *argv], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert (said["user"], said["hostkeyalias"]) == ("root", "v1")
    command = said["proxycommand"].replace("%%", "%")
    words = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True
    )
    assert words.stdout.splitlines()[-5:] == ["--home", str(home), "_forward", "v1", "22"]
