"""What /proc says of this node and of processes: small readers that never raise."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Optional

from wspilot.node.vmm.stale import start_time as start_time
from wspilot.node.vmm.stale import state as state


def now() -> float:
    """Seconds on CLOCK_BOOTTIME, which goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Which boot of this host this is."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def memory_mib() -> int:
    """MemTotal."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) // 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0


def cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def alive(pid: int, start: Optional[int]) -> bool:
    """Is it that very process, and not a zombie?"""
    return state(pid) not in ("", "Z", "X") and (start is None or start_time(pid) == start)


def started_at(pid: int) -> Optional[float]:
    """When a process began, on CLOCK_BOOTTIME."""
    ticks = start_time(pid)
    return None if ticks is None else ticks / os.sysconf("SC_CLK_TCK")
