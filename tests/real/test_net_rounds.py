"""Ten leases of real guests on bridges come and go, two side by side, ended at ten moments: nothing
of them is left on the nodes."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.real.bridgelab import Node, Site
from tests.real.bridgelease import files_of, leasing, two_nodes
from tests.real.lab import Lab
from tests.real.test_ctx_osg import toml
from wspilot.daemon.core.books import Books
from wspilot.daemon.store import Store

pytestmark = pytest.mark.real
LIMIT_S = 120.0
BOTH = ["public", "private"]
Do = Callable[["Round"], None]


class Round:
    """One lease, and the taps that it had when it was to end."""

    def __init__(self, site: Site, lab: Lab, name: str) -> None:
        self.site, self.lab, self.name = site, lab, name
        self.taps: set[str] = set()

    def ask(self, duration: str, count: int, nics: list[str], image: str) -> None:
        group = {"name": "g", "type": "small", "count": count, "nics": nics, "image": image}
        doc = {"workspace": {"name": self.name, "duration": duration},
               "group": [{**group, "placement": "pack"}]}  # fmt: skip
        self.lab.cli("deploy", toml(doc, self.lab.home.parent / f"{self.name}.toml"))

    def until(self, so: Callable[[], Any]) -> None:
        end = time.monotonic() + LIMIT_S
        while not so():
            assert time.monotonic() < end, json.dumps(self.lab.show(self.name), indent=1)[-3000:]
            time.sleep(0.05)

    def state(self) -> str:
        return str(self.lab.show(self.name)["vms"][0]["state"])

    def has(self) -> set[str]:
        """Its taps on all nodes."""
        marks = tuple(f"ws{vm['id']}." for vm in self.lab.show(self.name)["vms"])
        return {one for node in self.site.nodes for one in links(node) if one.startswith(marks)}

    def end(self) -> None:
        self.taps |= self.has()
        self.lab.cli("destroy", self.name, "--yes", "--timeout", "90")
        assert self.has() == set()


def up(one: Round) -> None:
    one.lab.cli("wait", one.name, "--for", "active", "--timeout", "120")


def verb(word: str) -> Do:
    """A guest that is up, and then something else."""

    def do(one: Round) -> None:
        up(one)
        one.lab.cli(word, one.name, "--timeout", "90")

    return do


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode()


def pilot_killed(one: Round) -> None:
    """Its guardian undoes all of it."""
    up(one)
    one.taps = one.has()
    [vm] = one.lab.show(one.name)["vms"]
    [node] = [node for node in one.site.nodes if node.name == vm["node"]]
    for pid, name in node.processes().items():
        with suppress(FileNotFoundError, ProcessLookupError):  # others come and go
            if name.startswith("qemu") and f"ws{vm['id']}.0" in command_line(pid):
                status = Path(f"/proc/{pid}/stat").read_text()
                os.kill(int(status.rsplit(")")[1].split()[1]), signal.SIGKILL)
    one.until(lambda: not one.has())


def over(one: Round) -> None:
    """Nobody ends it but its own time."""
    up(one)
    one.taps = one.has()
    one.lab.cli("wait", one.name, "--for", "ended", "--timeout", "120")


# By its name: what happens before the end, and what was asked for.
ROUNDS: Mapping[str, tuple[Do, str, int, list[str], str]] = {
    "asked": (lambda one: None, "10m", 2, BOTH, "default"),
    "tap": (lambda one: one.until(one.has), "10m", 2, BOTH, "default"),
    "booting": (lambda one: one.until(lambda: one.state() == "booting"), "10m", 2, BOTH, "patched"),
    "running": (up, "10m", 1, BOTH, "patched"),
    "paused": (verb("pause"), "10m", 1, ["private"], "default"),
    "suspended": (verb("suspend"), "10m", 1, BOTH, "default"),
    "stopped": (verb("stop"), "10m", 1, ["private"], "default"),
    "rebooted": (verb("reboot"), "10m", 1, ["private"], "default"),
    "killed": (pilot_killed, "10m", 1, BOTH, "default"),
    "over": (over, "30s", 1, ["private"], "patched"),
}


def links(node: Node) -> list[str]:
    return [one["ifname"] for one in json.loads(node.run("ip", "-j", "link"))]


def snapshot(node: Node) -> dict[str, Any]:
    """All that a lease may change on a node. Not link-local addresses: the kernel gives each link
    its own, some time after it is up."""
    addresses = [(one["ifname"], info["local"]) for one in json.loads(node.run("ip", "-j", "addr"))
                 for info in one["addr_info"] if info["scope"] != "link"]  # fmt: skip
    bridged = sorted(path for path in node.run("sh", "-c", "ls -d /sys/class/net/*/brif/*").split())
    return {"links": sorted(links(node)), "addresses": sorted(addresses), "ports": bridged,
            "rules": node.host("nft", "list", "ruleset"), "files": files_of(node),
            "processes": sorted(node.processes().values()), "left": node.left()}  # fmt: skip


def side(site: Site, lab: Lab, names: list[str]) -> dict[str, set[str]]:
    taps = {}
    for name in names:
        do, *asked = ROUNDS[name]
        one = Round(site, lab, name)
        one.ask(*asked)
        do(one)
        if name == "over":
            assert lab.show(name)["outcome"] == "ok"
        else:
            one.end()
        taps[name] = one.taps
    return taps


def test_10_rounds_with_real_guests_on_bridges_leave_nothing_behind(tmp_path: Path) -> None:
    with two_nodes() as site:
        with leasing(site, tmp_path) as lab:
            before = [snapshot(node) for node in site.nodes]
            names = list(ROUNDS)
            with ThreadPoolExecutor(2) as pool:
                sides = pool.map(lambda n: side(site, lab, names[n::2]), range(2))
            had = {name for one in sides for name, taps in one.items() if taps}
            assert had | {"asked"} == set(ROUNDS), "they had something to leave"
            end = time.monotonic() + 10
            while (after := [snapshot(node) for node in site.nodes]) != before:
                if time.monotonic() > end:
                    assert after == before
                time.sleep(0.2)
            proofs = lab.cli("fsck", "--prove")["proofs"]
            assert not [row for row in proofs if not row["proved"]]
        with closing(Store(lab.home / "store")) as store:
            books = Books.load(store.load())
        assert not books.held and not books.open_slots and not books.dirty_nodes
        assert len(list(books.workspaces())) == len(ROUNDS)
