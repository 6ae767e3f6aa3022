"""KVM or TCG for the VMM `qemu`: as the site says, as is known of this boot, else by the probe."""

from __future__ import annotations

from typing import Any, Optional

from wspilot.errors import UsageError
from wspilot.node.vmm.kvm import probe
from wspilot.node.vmm.qemu import PROGRAMS, Qemu
from wspilot.node.vmm.tools import program


async def choose(vmm: Any, accel: str, known: Any, boot_id: str) -> Optional[bool]:
    """Set `vmm.kvm`; the verdict, or None when KVM was not asked for.

    `known` is [boot id, verdict], as an earlier `reserved` of this node said it: the probe costs
    3 s where /dev/kvm hangs. Raises UsageError, WspilotError.
    """
    if accel not in ("auto", "tcg", "kvm"):
        raise UsageError(f"vmm_options.accel is {accel!r:.40}", "auto, tcg or kvm")
    works: Optional[bool] = None
    if accel == "kvm":
        works = True
    elif accel == "auto":
        if isinstance(known, list) and len(known) == 2 and known[0] == boot_id and boot_id:
            works = bool(known[1])
        else:
            works = (await probe(program("QEMU", PROGRAMS))).works
    assert isinstance(vmm, Qemu)
    vmm.kvm = bool(works)
    return works
