"""This machine: Python, QEMU and KVM. What the nodes have is known from their own words."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator

from wspilot.doctor.verdict import Check, Facts, fail, ok, warn
from wspilot.text import clean

QEMU = "qemu-system-x86_64"
HEAD, NODE = (3, 11), (3, 9)
ASK_S = 10.0


def python(facts: Facts) -> Iterator[Check]:
    """Here 3.11 or newer; on nodes 3.9 or newer, by `node_python`."""
    here = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < HEAD:
        yield fail("python", f"{here} here", "the headnode needs Python 3.11 or newer")
    else:
        yield ok("python", f"{here} here ({sys.executable})")
    name = facts.site.node_python or (sys.executable if facts.site.lrm == "local" else "python3")
    spoken = [node["name"] for node in facts.nodes if node["seen"]]
    if spoken:
        yield ok("python", f"{name} has run pilots on {len(spoken)} nodes")
    elif facts.site.lrm == "local":
        yield _version(name)
    else:
        yield ok("python", f"nodes are asked for {name}, 3.9 or newer: known once one has spoken")


def _version(name: str) -> Check:
    code = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
    try:
        done = subprocess.run([name, "-I", "-c", code], capture_output=True, timeout=ASK_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return fail("python", f"{name} for the nodes: {error}", "set [site] node_python")
    text = clean(done.stdout, 40)
    try:
        fit = tuple(map(int, text.split(".")[:2])) >= NODE
    except ValueError:
        return fail("python", f"{name} says {text!r}, not a version", "set [site] node_python")
    if not fit:
        return fail("python", f"{name} is {text}", "nodes need 3.9 or newer: [site] node_python")
    return ok("python", f"{text} for the nodes ({name})")


def vmm(facts: Facts) -> Iterator[Check]:
    """QEMU and KVM where the site uses them; on this host only, which may not be a node."""
    if facts.site.vmm == "sim":
        yield ok("vmm", "sim: nothing is needed; VMs are simulated")
        return
    if facts.site.vmm != "qemu":
        yield ok("vmm", f"{facts.site.vmm}: checked on its nodes")
        return
    where = "" if facts.site.lrm == "local" else " on this host (nodes may differ)"
    path = shutil.which(QEMU)
    if path is None:
        verdict = fail if facts.site.lrm == "local" else warn
        yield verdict("vmm", f"{QEMU} is not installed{where}", "apt install qemu-system-x86")
        return
    done = subprocess.run([path, "--version"], capture_output=True, timeout=ASK_S)
    yield ok("vmm", f"{clean(done.stdout, 400).partition('(')[0].strip()}{where}")
    yield from _kvm(path, where)


def _kvm(path: str, where: str) -> Iterator[Check]:
    from wspilot.node.vmm.kvm import probe

    verdict = asyncio.run(probe(path))
    if verdict.works:
        yield ok("kvm", f"works: {verdict.why}{where}")
    else:
        yield warn(
            "kvm",
            f"does not work: {verdict.why}{where}",
            "guests run under TCG, many times slower; see /dev/kvm's rights, nesting",
        )
