"""A Xen guest as its caller describes it, for the root helper: every word checked, and its room.

No text of a caller's reaches xl but through here. Each NIC is one that the network verbs have
pinned to its MAC and address.
"""

from __future__ import annotations

import re
from typing import Any

from wspilot.node import root_balloon as balloon
from wspilot.node import root_xl
from wspilot.node.root_balloon import GUEST
from wspilot.node.root_helper import (
    Caller,
    Record,
    Refused,
    Words,
    boot_id,
    head,
    load,
    number,
    one_line,
    word,
)
from wspilot.node.root_taps import TAP, VM

MOST_MIB, MOST_CPUS, MOST_DISKS = 1 << 22, 512, 16
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
VDEV = re.compile(r"xvd[a-z]")
VIF = re.compile(r"ws[a-z0-9]{1,10}\.[0-9]")


def overhead_mib(mib: int) -> int:
    """What Xen needs for a guest beside its memory: page tables, grants, its shadow."""
    return 8 + mib // 128


def guest_of(caller: Caller, words: Words) -> Record:
    """The guest as a record: every word checked, so that `config` can use them."""
    vm = word(words, "vm", VM)
    append = words.get("append") or ""
    if not isinstance(append, str) or len(append) > root_xl.APPEND_LIMIT:
        raise Refused(f"`append` is no text of at most {root_xl.APPEND_LIMIT} characters")
    if not root_xl.PLAIN.fullmatch(append):
        raise Refused("`append` holds quotes, a backslash, or what is not plain text")
    return {
        **head(caller, words),
        "vm": vm,
        "name": f"ws-{caller.uid}-{vm}",
        "uuid": word(words, "uuid", UUID),
        "kind": word(words, "kind", re.compile("|".join(root_xl.KINDS))),
        "cpus": number(words, "cpus", 1, MOST_CPUS),
        "mib": number(words, "mib", 1, MOST_MIB),
        "kernel": word(words, "kernel", root_xl.PATH),
        "initrd": word(words, "initrd", root_xl.PATH) if words.get("initrd") else "",
        "append": append,
        "nics": [_nic(caller, vm, one) for one in _some(words, "nics")],
        "disks": [_disk(one) for one in _some(words, "disks")],
    }


def _some(words: Words, key: str) -> list[Any]:
    found = words.get(key) or []
    if not isinstance(found, list) or len(found) > MOST_DISKS:
        raise Refused(f"`{key}` is not a list of at most {MOST_DISKS}")
    return found


def _nic(caller: Caller, vm: str, vif: object) -> Record:
    """A NIC that `net-attach` has pinned for this VM: no other may there be."""
    if not isinstance(vif, str) or not VIF.fullmatch(vif):
        raise Refused(f"{one_line(repr(vif), 40)} is no NIC")
    record = load(TAP).get(vif + TAP)
    if record is None or not caller.owns(record["uid"]) or record["vm"] != vm:
        raise Refused(f"NIC {vif} was not attached for VM {vm}")
    return {"vif": vif, "mac": record["mac"], "bridge": record["bridge"]}


def _disk(one: object) -> Record:
    if not isinstance(one, dict) or one.get("access") not in ("r", "w"):
        raise Refused(f"{one_line(repr(one), 80)} is no disk")
    return {
        "path": word(one, "path", root_xl.PATH),
        "vdev": word(one, "vdev", VDEV),
        "access": str(one["access"]),
    }


def check_room(guest: Words, name: str) -> None:
    """A pilot's guests have the memory that it took, and no more. Raises Refused."""
    take = balloon.taken(guest["uid"], guest["journal"])
    if take is None or take["boot"] != boot_id():
        raise Refused("this pilot has taken no memory for guests")
    used = sum(
        one["mib"] + overhead_mib(one["mib"])
        for n, one in load(GUEST).items()
        if n != name and one["journal"] == guest["journal"]
    )
    need = guest["mib"] + overhead_mib(guest["mib"])
    if used + need > take["kb"] // 1024:
        raise Refused(
            f"{need} MiB for {guest['name']} and {used} MiB for its sisters are more than the "
            f"{take['kb'] // 1024} MiB that were taken"
        )
