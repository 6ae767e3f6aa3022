"""`ready = "address"` with real guests: one is up when its address answers, and not before."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.lab import Lab
from tests.real.test_ctx_osg import toml
from tests.real.window import Window
from wspilot.guest import build_guest, default_cache

pytestmark = pytest.mark.real


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    guest = build_guest(default_cache() / "guest", default_cache() / "deb")
    one = Lab(tmp_path, guest)
    try:
        # Nobody tells this guest its address: it boots, and answers to nothing.
        kernel = ("--kernel", str(guest.out / "vmlinuz"), "--initrd", str(guest.out / "initrd"))
        append = ("--append", str(guest.image["append"]))
        one.cli("images", "add", "bare", *kernel, *append, "--context", "none")
        yield one
    finally:
        one.close()


def test_a_guest_is_up_when_its_address_answers_and_not_before(lab: Lab, tmp_path: Path) -> None:
    one = {"type": "small", "nics": ["private"], "ready": "address"}
    groups: list[dict[str, Any]] = [{**one, "name": "told"}, {**one, "name": "bare"}]
    groups[1]["image"] = "bare"
    doc = {"workspace": {"name": "w", "duration": "10m"}, "group": groups}
    lab.cli("deploy", toml(doc, tmp_path / "w.toml"))
    ws = lab.until("w", lambda ws: ws["vms"][0]["state"] == "running")
    env = {**os.environ, "WSPILOT_HOME": str(lab.home), "XDG_RUNTIME_DIR": "", "TERM": "xterm"}
    window = Window([sys.executable, "-m", "wspilot", "console", "w/bare/1"], env)
    try:
        for _ in range(60):  # what is typed before it listens is lost
            window.type(b"\recho $((6*7))-here\r")
            with contextlib.suppress(AssertionError):
                window.until(b"42-here", 2)
                break
        else:
            pytest.fail("no shell")
        time.sleep(2.0)  # it is up, has been asked several times, and has no address
        assert lab.show("w")["vms"][1]["state"] == "booting"
        ip = ws["vms"][1]["nics"][0]["ip"]
        window.type(f"busybox ifconfig eth0 {ip} netmask 255.255.255.0\r".encode())
        lab.cli("wait", "w", "--for", "active", "--timeout", "60")
    finally:
        window.close()
    # Another boot has to answer anew; a guest that goes on where it was is up at once.
    lab.cli("reboot", "w/told/1", "--timeout", "120")
    lab.cli("suspend", "w/told/1", "--timeout", "60")
    lab.cli("resume", "w/told/1", "--timeout", "60")
    assert {vm["state"] for vm in lab.show("w")["vms"]} == {"running"}
