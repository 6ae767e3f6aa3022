"""`wspilot-node.pyz selftest`: does this node fit, as the user who will run pilots here?

Gathering is apart from judging: `judge` is pure, and each verdict says what to do. Exit 1 when
something stands in the way of a lease.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wspilot.errors import WspilotError
from wspilot.node import root, xennode
from wspilot.node.places import KEEP_ROOT, RUN_ROOT
from wspilot.node.values import dataclass
from wspilot.text import clean

OK, WARN, BAD = "ok", "warn", "bad"
OLDEST = (3, 9)
# What this node code asks the helper for.
NEEDED = frozenset({"about", "net-attach", "net-detach", "net-list", "balloon-take", "balloon-give",
                    "xen-create", "xen-do", "xen-end", "xen-list", "bench-memory"})  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """One line: what was looked at, how it is, what to do."""

    what: str
    state: str
    text: str
    hint: str = ""


def selftest(as_json: bool) -> int:
    """Look, judge, print; the exit code."""
    verdicts = list(judge(gather()))
    if as_json:
        checks = [dict(vars(one)) for one in verdicts]
        print(json.dumps({"schema": 1, "checks": checks}))
    else:
        for one in verdicts:
            print(f"{one.state:4}  {one.what}: {one.text}")
            if one.hint and one.state != OK:
                print(f"      -> {one.hint}")
    return 1 if any(one.state == BAD for one in verdicts) else 0


def gather() -> dict[str, Any]:
    """What `judge` judges. Asks the helper twice; never raises."""
    found: dict[str, Any] = {
        "python": list(sys.version_info[:3]),
        "uid": os.getuid(),
        "xen": xennode.is_domain_0(),
        "roots": [str(one) for one in (RUN_ROOT, KEEP_ROOT) if not os.access(one, os.W_OK)],
        "helper": _helper(Path(root.HELPER)),
    }
    for key, verb in (("about", "about"), ("facts", "xen-facts")):
        if found["helper"] or (key == "facts" and not found["xen"]):
            continue
        try:
            limit_s = root.XEN_S if key == "facts" else root.LIMIT_S
            found[key] = dict(root.ask(verb, {}, limit_s))
        except WspilotError as error:
            found[f"{key}_error"] = [error.message, error.hint]
    names = (found.get("about") or {}).get("bridges") or {}
    found["no_bridge"] = [name for name in names if not _is_bridge(str(name))]
    return found


def _helper(path: Path) -> str:
    """What is wrong with the helper's file; nothing when it is as it must be."""
    try:
        info = path.stat()
    except OSError as error:
        return f"{path}: {error.strerror}"
    if info.st_uid != 0 or info.st_mode & 0o022:
        return f"{path} can be written by others than root"
    return ""


def _is_bridge(name: str) -> bool:
    return Path(f"/sys/class/net/{name}/bridge").is_dir()


def judge(found: Mapping[str, Any]) -> Iterator[Verdict]:
    """Every check's verdict. Pure."""
    version = ".".join(map(str, found["python"]))
    fits = tuple(found["python"][:2]) >= OLDEST
    yield Verdict("python", OK if fits else BAD, version, "node_python names 3.9 or newer")
    if found["uid"] == 0:
        yield Verdict("user", WARN, "this is root; pilots run as ordinary users", "su USER -c ...")
    for path in found["roots"]:
        yield Verdict("places", BAD, f"{path} cannot be written to", f"chmod 1777 {path}")
    yield from _rights(found)
    if not found["xen"]:
        yield Verdict("xen", OK, "this is no domain 0: VMM qemu, adapter none")
    elif "facts" in found:
        yield from _xen(found["facts"])


def _rights(found: Mapping[str, Any]) -> Iterator[Verdict]:
    """The helper, the sudo rule, node.conf."""
    needed = BAD if found["xen"] else WARN
    if found["helper"]:
        yield Verdict("helper", needed, found["helper"], "make install-node, as root")
        return
    for key in ("about_error", "facts_error"):
        if key in found:
            message, hint = found[key]
            yield Verdict("sudo rule and node.conf", needed, clean(message, 300), clean(hint, 300))
            return
    about = found["about"]
    yield Verdict("sudo rule and node.conf", OK, f"{about['user']} may ask the helper")
    if lacks := sorted(NEEDED - set(about["verbs"])):
        text = f"it is of another release: it knows no {', '.join(lacks)}"
        yield Verdict("helper", needed, text, "make install-node, as root")
    if found["xen"] and not about["bridges"]:
        text = "node.conf names none: guests have no network"
        yield Verdict("bridge", WARN, text, "[bridge NAME] in /etc/wspilot/node.conf")
    for name, ranges in about["bridges"].items():
        if name in found["no_bridge"]:
            yield Verdict("bridge", BAD, f"node.conf names {name}, which is not here", "ip link")
        elif not ranges:
            text = f"{name} has no addresses for {about['user']}"
            yield Verdict("bridge", WARN, text, f"[bridge {name}] in /etc/wspilot/node.conf")
        else:
            yield Verdict("bridge", OK, f"{name}: {', '.join(ranges)}")


def _xen(facts: Mapping[str, Any]) -> Iterator[Verdict]:
    """What domain 0 needs to be."""
    line, setting = str(facts["xen_commandline"]), str(facts["xl_conf"])
    given = next((one for one in line.split() if one.startswith("dom0_mem=")), "")
    if facts["xen_version"] and facts["total_memory"]:
        yield Verdict("xen", OK, f"{facts['xen_version']}, {facts['total_memory']} MiB in all")
    else:
        text = "xl info names neither Xen's version nor the memory: not the xl that is known here"
        yield Verdict("xen", BAD, text, "tried with Xen 4.17")
    off = setting in ("off", "0", "no") or (setting == "auto" and bool(given))
    text = f"autoballoon is {setting}, {given or 'no dom0_mem='} on Xen's command line"
    yield Verdict(
        "autoballoon",
        OK if off else BAD,
        text if off else f"{text}: xl itself would take domain 0's memory and not give it back",
        'autoballoon="off" in /etc/xen/xl.conf, or dom0_mem=...,max:... for Xen',
    )
    bounded = "max:" in given
    text = "has a maximum" if bounded else "has no maximum: a slip could give it all memory"
    yield Verdict("domain 0", OK if bounded else WARN, text, "dom0_mem=SIZE,max:SIZE for Xen")
    yield from _memory(facts)
    for kind, hint in (
        ("dev", "udevd makes them"),
        ("scripts", "apt-get install xen-utils-common"),
    ):
        if facts[kind]:
            place = "/dev" if kind == "dev" else "/etc/xen/scripts"
            text = f"{place} lacks {', '.join(facts[kind])}: guests with disks or NICs cannot start"
            yield Verdict(kind, BAD, text, hint)


def _memory(facts: Mapping[str, Any]) -> Iterator[Verdict]:
    """How much a slot could take, and whether domain 0 has what it should have."""
    lowest, has = int(facts["dom0_min_mib"]), int(facts["dom0_mib"])
    spare = min(has - lowest, int(facts["available_mib"]) - int(facts["reserve_mib"]))
    text = f"{has} MiB, {facts['taken_mib']} taken; {max(0, spare)} could be taken now"
    yield Verdict(
        "memory", OK if spare > 0 else BAD, text, "dom0_min_mib in /etc/wspilot/node.conf"
    )
    if has + int(facts["taken_mib"]) != int(facts["full_mib"]):
        text = f"{has} + {facts['taken_mib']} MiB are not the {facts['full_mib']} it had at first"
        yield Verdict("books", WARN, text, "wspilot-node.pyz kill-all")
