"""What xl prints and what it is given, for the root helper (`root_xen.py`). Pure: no I/O.

xl takes unknown keys and a bad MAC in silence and exits with 0, and what it calls an error may be
ten lines long (docs/xen.md). So every word of a configuration is checked here, nothing of it is
the caller's own text, and every recorded failure has one clear sentence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from wspilot.node.root_helper import Refused, one_line
from wspilot.node.values import dataclass

KINDS = ("pv", "pvh")
PLAIN = re.compile(r"[ !#-&(-\[\]-~]*")  # printable ASCII but both quotes and the backslash
PATH = re.compile(r"/[A-Za-z0-9_./+@:%~-]{1,400}")
APPEND_LIMIT = 1000
REASONS = {0: "poweroff", 1: "reboot", 2: "suspend", 3: "crash", 4: "watchdog"}
_ROW = re.compile(
    r"(?P<name>.+?) +(?P<id>\d+) +(?P<mib>\d+) +(?P<cpus>\d+)\s+(?P<state>[rbpscd-]{6})"
    r"\s+(?P<time>\d+\.\d)\s+(?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\s.*"
)
_HEAD = ("Name", "ID", "Mem", "VCPUs", "State", "Time(s)", "UUID")


@dataclass(frozen=True)
class Domain:
    """A line of `xl list -v`. A half-made one has the name `(null)` and a uuid all the same."""

    name: str
    id: int
    mib: int
    state: str
    uuid: str

    @property
    def paused(self) -> bool:
        """Does it stand still by `xl pause`?"""
        return "p" in self.state

    @property
    def over(self) -> bool:
        """Has its guest ended, while it still holds its memory (nobody destroyed it)?"""
        return "s" in self.state or "c" in self.state or "d" in self.state


def parse_list(text: str) -> list[Domain]:
    """`xl list -v`, domain 0 included. Raises Refused for what another version prints."""
    head, _, rest = text.partition("\n")
    if tuple(head.split()[: len(_HEAD)]) != _HEAD:
        raise Refused(
            f"xl list -v begins with {one_line(head, 80)!r}: not the xl that is known here",
            "tried with Xen 4.17; wspilot-node.pyz selftest tells which one this is",
        )
    found = []
    for line in rest.splitlines():
        row = _ROW.fullmatch(line)
        if row is None and line.strip():
            raise Refused(f"xl list -v printed {one_line(line, 120)!r}, which is no domain")
        if row is not None:
            found.append(
                Domain(row["name"], int(row["id"]), int(row["mib"]), row["state"], row["uuid"])
            )
    if not any(one.id == 0 for one in found):
        raise Refused("xl list -v names no domain 0", "is this node booted into Xen?")
    return found


def parse_info(text: str) -> dict[str, str]:
    """`xl info`: its keys and values."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, blank, value in pairs if blank}


def end_reason(log: str, domid: int) -> str:
    """Why a guest ended, by the last words of its `xl create` (/var/log/xen/xl-NAME.log)."""
    found = re.findall(rf"^Domain {domid} has shut down, reason code (\d+)", log, re.MULTILINE)
    return REASONS.get(int(found[-1]), "") if found else ""


# -- what went wrong

# The first that fits decides: what is special comes before what is general.
_KNOWN: Sequence[tuple[str, str, str]] = (
    (r'Domain with name "([^"]*)" already exists', "there is a domain {} already", ""),
    (
        r"segment \w+ too large",
        "its memory is too small for its own kernel",
        "give its lease type more memory",
    ),
    (
        r"failed to open file '([^']*)'",
        "its kernel or ramdisk cannot be opened",
        "is the image on this node?",
    ),
    (
        r"can't allocate low memory|Cannot allocate memory|Out of memory|Cannot claim",
        "Xen has not enough free memory for it",
        "domain 0 gives memory up late: was it reserved and settled?",
    ),
    (
        r"neither hap nor shadow paging available",
        "this processor has not what a PVH guest needs",
        'kind = "pv" needs nothing of it',
    ),
    (r"Could not find bridge device (\S+)", "this node has no bridge {}", ""),
    (r"cannot execute (\S+): No such file", "Xen's script {} is not there", "xen-utils-common"),
    (
        r"block (?:add|remove)? ?failed|unable to add disk devices",
        "Xen's script could not attach its disk",
        "/dev/stdin and /dev/fd must exist (udevd makes them)",
    ),
    (
        r"below the minimum threshold",
        "Xen does not let domain 0 go so low",
        "raise dom0_min_mib in /etc/wspilot/node.conf",
    ),
    (
        r"memory_dynamic_max must be less than or equal to memory_static_max",
        "that is above domain 0's maximum (dom0_mem=...,max:)",
        "",
    ),
    (
        r"config parsing error|Failed to parse config|Invalid parameter",
        "xl does not understand its configuration",
        "",
    ),
    (r"Failed to read config file", "xl cannot read its configuration", ""),
    (r"invalid domain identifier|[Nn]on-existant domain|does not exist", "no such domain", ""),
    (
        r"privileged command interface|cannot init xl context|xenstore|xencall",
        "Xen does not answer: neither hypervisor nor xenstored",
        "is this node booted into Xen, and /etc/init.d/xen started?",
    ),
)


def explain(verb: str, code: int, said: str) -> Refused:
    """One sentence for what `xl VERB` said when it failed."""
    for pattern, words, hint in _KNOWN:
        found = re.search(pattern, said)
        if found is not None:
            detail = one_line(found[1], 80) if found.groups() else ""
            return Refused(f"xl {verb}: {words.format(detail)}", hint)
    lines = [line for line in said.splitlines() if "error" in line.lower()] or said.splitlines()
    return Refused(f"xl {verb}: exit {code}: {one_line(lines[0] if lines else 'no word')}")


# -- a guest's configuration


def config(
    guest: Mapping[str, Any], files: Mapping[str, str], disks: Sequence[str], script: str = ""
) -> str:
    """xl.cfg(5) of a guest whose words were checked. `files`: kernel and ramdisk as xl opens them;
    `disks`: block devices, in the order of `guest["disks"]`, and `script` what plugs them in. A
    guest that ends is destroyed at
    once, also when it asks for a reboot: its pilot starts it again."""
    lines = {
        "name": _quoted(guest["name"]),
        "uuid": _quoted(guest["uuid"]),
        "type": _quoted(guest["kind"]),
        "kernel": _quoted(files["kernel"]),
        "memory": str(int(guest["mib"])),
        "maxmem": str(int(guest["mib"])),
        "vcpus": str(int(guest["cpus"])),
        "extra": _quoted(guest["append"]),
        **{f"on_{what}": '"destroy"' for what in ("poweroff", "reboot", "crash", "watchdog")},
    }
    if files.get("initrd"):
        lines["ramdisk"] = _quoted(files["initrd"])
    if guest["nics"]:
        lines["vif"] = _listed(
            f"mac={nic['mac']},bridge={nic['bridge']},vifname={nic['vif']}" for nic in guest["nics"]
        )
    if disks:
        lines["disk"] = _listed(
            f"format=raw,vdev={one['vdev']},access={one['access']},script={script},target={device}"
            for one, device in zip(guest["disks"], disks)
        )
    return "".join(f"{key} = {value}\n" for key, value in lines.items())


def _quoted(text: str) -> str:
    if not PLAIN.fullmatch(text):
        raise Refused(f"{one_line(repr(text), 120)} holds what xl would not take as text")
    return f'"{text}"'


def _listed(words: Any) -> str:
    return f"[ {', '.join(map(_quoted, words))} ]"
