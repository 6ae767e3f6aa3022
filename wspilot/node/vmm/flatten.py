"""A VM's disks as files that stand alone, of one moment: for `save`.

The guest stands still (or is stopped) while qemu-img reads: QEMU writes its caches out when it
stops the processors. What a guest had not written yet is not in the image, as after a power cut;
whoever wants it clean stops the VM first.

Invariant: nothing is begun that is not reckoned to be over before the lease ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from wspilot.errors import Refused, TimedOut, WspilotError
from wspilot.node.vmm.child import spawn
from wspilot.node.vmm.disks import MIB, Disk, flat_argv
from wspilot.node.vmm.tools import program
from wspilot.text import clean, format_duration

RATE_MIB = 50.0  # a second, where nobody says
EXTRA_S = 2.0  # for what does not depend on the size


def roles(disks: Sequence[Disk]) -> Mapping[str, Disk]:
    """What is saved, by the role it will have: blank disks are made anew for each VM."""
    return {"disk" if one.serial == "root" else one.serial: one for one in disks if one.base}


def check_time(name: str, disks: Sequence[Disk], left_s: float, rate_mib: float) -> None:
    """Raises Refused where flattening and copying would not be over in `left_s`.

    Counted as the bytes of overlay and base together, once to make one file of them and once to
    take that to the repository.
    """
    size = 0
    for disk in roles(disks).values():
        overlay, base = Path(disk.path).stat(), Path(disk.base).stat()
        size += overlay.st_blocks * 512 + base.st_size
    need_s = 2 * size / (max(rate_mib, 0.001) * MIB) + EXTRA_S
    if need_s > left_s:
        raise Refused(
            f"{name}: saving {size // MIB} MiB is reckoned with {format_duration(need_s)}"
            f" ({rate_mib:g} MiB/s), and {format_duration(left_s)} are left",
            "wspilot extend first, or save a smaller disk",
        )


async def flatten(disks: Sequence[Disk], limit_s: float) -> Mapping[str, str]:
    """Paths of the new files by role, beside the overlays. Raises WspilotError: then none is left.

    The guest must not write meanwhile.
    """
    made = {role: f"{disk.path}.flat" for role, disk in roles(disks).items()}
    try:
        for role, disk in roles(disks).items():
            await _convert(flat_argv(program("qemu-img", ("qemu-img",)), disk, made[role]), limit_s)
    except BaseException:
        for path in made.values():
            with contextlib.suppress(OSError):
                Path(path).unlink()
        raise
    return made


async def _convert(argv: Sequence[str], limit_s: float) -> None:
    tool = spawn(argv)
    try:
        if not await tool.wait(limit_s):
            raise TimedOut(f"qemu-img convert took longer than {limit_s:g} s")
    finally:
        tool.kill()
        await asyncio.shield(tool.wait(1.0))  # until it is dead it may still make its file
    if tool.returncode:
        why = clean(tool.stderr, 400) or f"code {tool.returncode}"
        raise WspilotError(f"its disk could not be read: qemu-img: {why}")
