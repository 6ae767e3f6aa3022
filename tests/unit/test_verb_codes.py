"""With which exit code a verb ends that its node did not carry out (PROTOCOLS.md section 5)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.fake_daemon import VM, VM2, books
from wspilot.config import load
from wspilot.daemon.api import ServiceApi
from wspilot.daemon.service import Service
from wspilot.errors import Code, WspilotError
from wspilot.model import VmState

PAUSED = "reboot: it is paused; reboot needs a VM that is booting or running"
DONE = -1


async def code(tmp_path: Path, *codes: int) -> Code:
    """Of `wait --for done`, with two VMs that were refused so."""
    service = Service(load(None, tmp_path), tmp_path)
    service.books = books()
    for vm, one in zip((VM, VM2), codes, strict=True):
        vm = replace(vm, state=VmState.PAUSED, refused=PAUSED if one >= 0 else "")
        service.books.put(replace(vm, refused_code=max(0, one)))
    with pytest.raises(WspilotError, match=PAUSED) as caught:
        await ServiceApi(service).call(
            "wait", {"id": VM.workspace, "for": "done", "timeout_s": 20}, 0
        )
    return caught.value.code


async def test_what_a_node_refused_ends_as_refused_and_what_failed_as_failed(
    tmp_path: Path,
) -> None:
    assert await code(tmp_path, 5, DONE) == await code(tmp_path, 5, 5) == Code.REFUSED
    assert await code(tmp_path, 1, DONE) == await code(tmp_path, 5, 1) == Code.FAILED
    assert await code(tmp_path, 0, DONE) == Code.FAILED, "written by an earlier release"
