"""Does KVM work here? Proved by running eight instructions in it, within a time limit.

/dev/kvm is no answer: on nested and mediated hosts it opens, makes a VM, and then the guest hangs
(seen with -cpu qemu64), or QEMU aborts at the first MSR that it may not set (the same host, -cpu
host). The verdict holds for one boot of the host; the caller keeps it (PROTOCOLS.md section 1).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wspilot.errors import WspilotError
from wspilot.node.vmm.child import spawn
from wspilot.text import clean

DEVICE = "/dev/kvm"
PROBE_S = 3.0
SAID = 0x2A
PROVED = SAID << 1 | 1  # isa-debug-exit turns a byte into this exit code


@dataclass(frozen=True)
class Verdict:
    """`works`, and in words why not."""

    works: bool
    why: str


def boot_sector() -> bytes:
    """A disk of one sector that does sums in 16-bit mode and writes the result to port 0xf4.

    The loop makes it run, not only start: some hosts fail at the first exit, some at the next.
    """
    code = bytes.fromhex(
        "31c0"  # xor ax, ax
        "b90010"  # mov cx, 0x1000
        "40"  # again: inc ax
        "e2fd"  # loop again
        "3d0010"  # cmp ax, 0x1000
        "7504"  # jne hang
        "b02a"  # mov al, SAID
        "e6f4"  # out 0xf4, al
        "f4"  # hang: hlt
        "ebfd"  # jmp hang
    )
    return code.ljust(510, b"\0") + b"\x55\xaa"


def probe_argv(program: str, sector: str, accel: str, cpu: str) -> Sequence[str]:
    """A machine with next to nothing in it, but for the same processor as the VMs will have."""
    return (
        *(program, "-nodefaults", "-no-user-config", "-display", "none"),
        *("-accel", accel, "-cpu", cpu),
        *("-machine", "pc", "-m", "16M", "-no-reboot"),
        *("-drive", f"file={sector.replace(',', ',,')},format=raw,if=ide"),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=0x01"),
    )


async def probe(
    program: str, limit_s: float = PROBE_S, accel: str = "kvm", cpu: str = "host"
) -> Verdict:
    """Run the probe; at most `limit_s` and a moment to reap it. Leaves nothing behind.

    `accel` and `cpu` are for the tests, which prove the probe itself.
    """
    if accel == "kvm" and not os.access(DEVICE, os.R_OK | os.W_OK):
        there = Path(DEVICE).exists()
        return Verdict(False, f"{DEVICE}: {'no permission' if there else 'not there'}")
    with tempfile.NamedTemporaryFile(prefix="wspilot-kvm-") as sector:
        sector.write(boot_sector())
        sector.flush()
        try:
            child = spawn(probe_argv(program, sector.name, accel, cpu))
        except WspilotError as error:
            return Verdict(False, error.message)
        try:
            in_time = await child.wait(limit_s)
        finally:
            child.kill()
        dead = in_time or await child.wait(1.0)
    if not in_time:
        stuck = "" if dead else ", and does not die of SIGKILL"
        return Verdict(
            False, f"{DEVICE} opens, but a guest ran for {limit_s:g} s without end{stuck}"
        )
    if child.returncode != PROVED:
        said = clean(child.stderr[-600:], 200) or f"exit code {child.returncode}"
        return Verdict(False, f"QEMU with KVM: {said}")
    return Verdict(True, "a guest ran and ended as it should")


def boot_id() -> str:
    """Which boot of this host a verdict belongs to."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
