"""The closed picture of a workspace that every member gets, and where its nodes find each other.

Pure. What travels is made when the command's file is written, so that the books hold no copy of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wspilot.daemon.core.books import Books
from wspilot.daemon.core.orders import send
from wspilot.daemon.core.turn import Turn
from wspilot.messages import Verb
from wspilot.model import PilotRecord, Vm, Workspace

MEMBERS_A_PART = 200  # some 250 bytes each, and a file has at most 64 KiB
PEERS = -1  # instead of a part's number: only where the sisters are
MOST_PEERS = 500  # some 100 bytes each
PORTS = ("trunk", "cache")  # of `started`'s facts: what sister nodes may know


def host_name(vm: Vm) -> str:
    """A VM's host name: its group and number."""
    return f"{vm.group}-{vm.index}"  # groups' names are fit for DNS


def parts_of(ws: Workspace) -> int:
    """How many commands its picture takes."""
    return max(1, -(-len(ws.vms) // MEMBERS_A_PART))


def part(books: Books, ws: Workspace, number: int, keys: Mapping[str, str]) -> dict[str, Any]:
    """Part `number` (from 0, or `PEERS`) of the picture; `keys` are public host keys by VM id."""
    if number == PEERS:
        return {"part": number, "parts": parts_of(ws), "members": [], "peers": peers(books, ws)}
    first = number * MEMBERS_A_PART
    members = [vm for id in ws.vms[first : first + MEMBERS_A_PART] if (vm := books.vm(id))]
    groups = {group.name: group for group in ws.groups}
    return {
        "part": number,
        "parts": parts_of(ws),
        "workspace": ws.name,
        "members": [
            {
                "name": vm.name,
                "host": host_name(vm),
                "group": vm.group,
                "networks": [nic.network for nic in vm.nics],
                "ips": [nic.ip for nic in vm.nics],
                "macs": [nic.mac for nic in vm.nics],
                "provides": list(groups[vm.group].provides),
                "requires": list(groups[vm.group].requires),
                "host_key": keys.get(vm.id, ""),
            }
            for vm in members
        ],
        "keys": list(ws.keys),
        "peers": peers(books, ws) if number == 0 else {},
    }


def peers(books: Books, ws: Workspace) -> dict[str, Any]:
    """The workspace's nodes: what their pilots listen on."""
    found: dict[str, Any] = {}
    for slot in books.slots_of(ws):
        for pilot in books.pilots_of(slot):
            ports = {name: pilot.facts[name] for name in PORTS if pilot.facts.get(name)}
            known = pilot.state in ("reserving", "ready") and len(found) < MOST_PEERS
            if ports and known:
                found[pilot.node] = ports
    return found


def send_all(turn: Turn, ws: Workspace, pilot: PilotRecord) -> None:
    """Give a pilot the whole picture, before its first create."""
    for number in range(parts_of(ws)):
        send(turn, pilot, Verb.CONTEXT, {"workspace": ws.id, "part": number})


def tell_sisters(turn: Turn, ws: Workspace, pilot: PilotRecord) -> None:
    """Another node of the workspace is there: those that were told before learn of it."""
    if not any(pilot.facts.get(name) for name in PORTS):
        return
    told = {vm.pilot for vm in turn.books.vms_of(ws) if vm.pilot and vm.pilot != pilot.id}
    for id in sorted(told):
        sister = turn.books.pilot(id)
        if sister is not None and sister.state == "ready":
            send(turn, sister, Verb.CONTEXT, {"workspace": ws.id, "part": PEERS})
