"""Drivers for batch systems: pure `argv()` and `parse()` functions and one runner."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wspilot.daemon.lrm.base import Driver
from wspilot.daemon.lrm.site import batch_settings, local_settings


def open_driver(name: str, settings: Mapping[str, Any], home: Path) -> Driver:
    """The driver of a site's batch system. `settings` were checked by config.py."""
    if name == "local":
        from wspilot.daemon.lrm.local import LocalDriver

        return LocalDriver(local_settings(settings), home / "local")
    if name == "slurm":
        from wspilot.daemon.lrm.slurm import SlurmDriver

        return SlurmDriver(batch_settings(settings, kill_delay_s=30.0))
    import shutil

    from wspilot.daemon.lrm.torque import TorqueDriver

    # The job's shell has no login PATH: pbsdsh is called by the name it has here.
    pbsdsh = shutil.which("pbsdsh") or "pbsdsh"
    return TorqueDriver(batch_settings(settings, kill_delay_s=2.0), pbsdsh)
