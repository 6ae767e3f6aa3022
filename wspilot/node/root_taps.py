"""NICs on a bridge, for the root helper: taps of the caller's, pinned to their MAC and address.

A record is written before its tap is made. Filter and DHCP are then made from all records, the
whole each time, and only after that the tap is plugged in.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import re
import struct
from pathlib import Path
from typing import Any

from wspilot.node import root_dhcp
from wspilot.node.root_filter import set_filter
from wspilot.node.root_helper import (
    CONF,
    Caller,
    Limits,
    Record,
    Refused,
    Words,
    forget,
    head,
    is_stray,
    load,
    number,
    one_line,
    run,
    save,
    word,
)

TAP = ".tap"
LINK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
VM = re.compile(r"[a-z0-9]{1,10}")
TUN, IFF_TAP, IFF_NO_PI = "/dev/net/tun", 0x0002, 0x1000
TUNSETIFF, TUNSETPERSIST, TUNSETOWNER = 0x400454CA, 0x400454CB, 0x400454CC
DENY_LIMIT = 1024  # the headnode's own addresses are among them


def attach(caller: Caller, limits: Limits, words: Words) -> Record:
    """A VM's NIC: a tap of the caller's on a bridge, pinned to its MAC and address. -> {tap}

    With `vif` it is Xen that makes a device of that name; here it is pinned all the same.
    """
    sweep_taps()
    record = {
        **head(caller, words),
        "vm": word(words, "vm", VM),
        **_nic(limits, words),
    }
    tap = f"ws{record['vm']}.{number(words, 'number', 0, 9)}"
    _check_free(caller, tap, record)
    save(tap + TAP, record)
    try:
        _remove_link(tap)
        if not words.get("vif"):
            _make_tap(tap, caller.uid)
        settle_network()
        if not words.get("vif"):
            _plug(tap, record["bridge"])
    except (Refused, OSError):
        _remove_link(tap)
        forget(tap + TAP)
        with contextlib.suppress(Refused, OSError):
            settle_network()
        raise
    return {"tap": tap}


def detach(caller: Caller, limits: Limits, words: Words) -> Record:
    """Take a VM's NICs away, or all of a slot; nothing there is fine. -> {removed: [tap]}"""
    vm = word(words, "vm", VM) if words.get("vm") else None
    slot = word(words, "slot")
    removed = []
    for name, record in load(TAP).items():
        if record["slot"] == slot and vm in (None, record["vm"]):
            if not caller.owns(record["uid"]):
                raise Refused(f"tap {name[: -len(TAP)]} is another user's")
            _remove_tap(name)
            removed.append(name[: -len(TAP)])
    if sweep_taps() or removed:
        settle_network()
    return {"removed": removed}


def show(caller: Caller, limits: Limits, words: Words) -> Record:
    """What the caller has on this node; root sees all. Strays are undone first. -> {taps}"""
    strays = sweep_taps()
    if strays:
        settle_network()
    mine = {n[: -len(TAP)]: r for n, r in load(TAP).items() if caller.owns(r["uid"])}
    return {"taps": mine, "strays": strays}


def _nic(limits: Limits, words: Words) -> Record:
    """The NIC as a record, every part of it checked against this node's limits."""
    bridge = word(words, "bridge", LINK)
    try:
        ip = ipaddress.IPv4Address(words.get("ip"))
        network = ipaddress.IPv4Interface(f"{ip}/{number(words, 'prefix', 8, 30)}").network
        gateway = str(ipaddress.IPv4Address(words["gateway"])) if words.get("gateway") else ""
        dns = [str(ipaddress.IPv4Address(one)) for one in _some(words, "dns")]
        deny = [str(ipaddress.IPv4Network(one)) for one in _some(words, "deny")]
    except ValueError as error:
        raise Refused(f"the NIC's addresses: {one_line(error)}") from None
    allowed = limits.ranges(bridge)
    if not any(ip in one for one in allowed):
        few = ", ".join(map(str, allowed)) or "none"
        raise Refused(
            f"address {ip} on bridge {bridge} is not among yours ({few})",
            f"the administrator gives ranges in {CONF}: [bridge {bridge}]",
        )
    mac = ":".join(["02:57"] + [f"{byte:02x}" for byte in ip.packed])
    if words.get("mac") != mac:
        raise Refused(f"`mac` is {one_line(repr(words.get('mac')), 40)}; that of {ip} is {mac}")
    return {
        "bridge": bridge,
        "mac": mac,
        "ip": str(ip),
        "network": str(network),
        "gateway": gateway,
        "dns": dns,
        "deny": sorted({*deny, *map(str, limits.deny())}),
    }


def _some(words: Words, key: str) -> list[Any]:
    found = words.get(key) or []
    if not isinstance(found, list) or len(found) > DENY_LIMIT:
        raise Refused(f"`{key}` is not a list of at most {DENY_LIMIT}")
    return found


def _check_free(caller: Caller, tap: str, record: Words) -> None:
    for name, other in load(TAP).items():
        if name == tap + TAP and not caller.owns(other["uid"]):
            raise Refused(f"tap {tap} is another user's")
        if name != tap + TAP and other["ip"] == record["ip"]:
            raise Refused(f"address {record['ip']} is held by tap {name[: -len(TAP)]} on this node")
    if not Path(f"/sys/class/net/{record['bridge']}/bridge").is_dir():
        raise Refused(f"this node has no bridge {record['bridge']}")
    if tap + TAP not in load(TAP) and os.path.lexists(f"/sys/class/net/{tap}"):
        raise Refused(f"this node has a device {tap} already, and it is not ours")


def sweep_taps() -> list[str]:
    """Undo strays; the names of those that were."""
    strays = [name for name, record in load(TAP).items() if is_stray(record)]
    for name in strays:
        _remove_tap(name)
    return [name[: -len(TAP)] for name in strays]


def settle_network() -> None:
    """Make filter and DHCP what the records say: the whole, each time."""
    taps = {name[: -len(TAP)]: record for name, record in load(TAP).items()}
    set_filter(taps)
    for bridge in root_dhcp.served() | {record["bridge"] for record in taps.values()}:
        root_dhcp.serve(bridge, {t: r for t, r in taps.items() if r["bridge"] == bridge})


def _make_tap(tap: str, uid: int) -> None:
    try:
        fd = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(f"{TUN}: {error.strerror}", "modprobe tun") from None
    try:
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", tap.encode(), IFF_TAP | IFF_NO_PI))
        fcntl.ioctl(fd, TUNSETOWNER, uid)
        fcntl.ioctl(fd, TUNSETPERSIST, 1)
    finally:
        os.close(fd)


def _plug(tap: str, bridge: str) -> None:
    """Only now, with its filter in place. The host itself says nothing to the guest by IPv6."""
    with contextlib.suppress(OSError):
        Path(f"/proc/sys/net/ipv6/conf/{tap}/disable_ipv6").write_text("1")
    run(["ip", "link", "set", "dev", tap, "master", bridge, "up"])


def _remove_tap(name: str) -> None:
    _remove_link(name[: -len(TAP)])
    forget(name)


def _remove_link(tap: str) -> None:
    if os.path.lexists(f"/sys/class/net/{tap}"):
        run(["ip", "link", "delete", "dev", tap])


VERBS = {"net-attach": attach, "net-detach": detach, "net-list": show}
