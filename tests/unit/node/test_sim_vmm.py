"""VMM `sim` promises nothing that it cannot keep."""

from __future__ import annotations

from pathlib import Path

import pytest

from wspilot.errors import Refused
from wspilot.node.vmm.base import parse_spec
from wspilot.node.vmm.sim import Sim


async def test_a_simulated_disk_is_not_said_to_be_saved(tmp_path: Path) -> None:
    data = {"id": "v1", "name": "w/vm/1", "uuid": "0645efec-1be7-4079-86c7-980ca1f19f2b",
            "cpus": 1, "memory_mib": 128, "image": {}, "nics": []}  # fmt: skip
    vmm = Sim({"boot_s": 0, "stop_s": 0})
    await vmm.create(parse_spec(data), tmp_path, tmp_path / "console.log", lambda _: None)
    try:
        with pytest.raises(Refused, match="a simulated VM has no disk"):
            await vmm.act("v1", "save", {"image": "mine"})
        assert await vmm.act("v1", "pause", {}) == {}
    finally:
        await vmm.close()
