"""How far an image has come, as the user sees it: in `show`, in its JSON, and while waiting."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.real.lab import Lab
from tests.unit.node.imageyard import Web, disk
from wspilot.guest import build_guest, default_cache

pytestmark = pytest.mark.real


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """On nodes of its own: what was never there has to come."""
    guest = build_guest(default_cache() / "guest", default_cache() / "deb")
    names = [f"p{os.getpid()}n{n}" for n in (1, 2)]
    one = Lab(tmp_path, guest, lrm=f"nodes = {json.dumps(names)}")
    try:
        yield one
    finally:
        one.close()
        for top in ("/tmp", "/var/tmp"):
            for name in names:
                shutil.rmtree(f"{top}/wspilot-{os.getuid()}/{name}", ignore_errors=True)


def test_a_transfer_is_seen_growing_while_it_goes_on(lab: Lab, tmp_path: Path) -> None:
    data = disk(tmp_path / "d", 48)
    with Web({"/d": data}) as web:
        kernel = str(lab.images / "default" / "vmlinuz")
        lab.cli("images", "add", "far", f"{web.url}/d", "--kernel", kernel, "--link")
        web.pace_s = 0.1  # some 2.5 MB/s
        asked = ("--type", "small", "--image", "far", "--duration", "10m", "--name", "w")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lab.run, "deploy", *asked, "--wait", "--timeout", "60")
            while lab.run("show", "w").returncode:
                assert not waiting.done()
            seen, shown, end = list[float](), set[str](), time.monotonic() + 60
            while len({part for part in seen if part < 1}) < 2 or not shown:
                assert time.monotonic() < end, seen
                vm = lab.show("w")["vms"][0]
                assert vm["state"] in ("pending", "propagating")
                seen += [] if vm["progress"] is None else [vm["progress"]]
                shown |= set(re.findall(r" propagating (\d+) % ", lab.run("show", "w").stdout))
            time.sleep(2)  # who waits looks every half second
            lab.cli("destroy", "w", "--yes", "--timeout", "60")
            waited = waiting.result(60)
        assert seen == sorted(seen) and min(seen) > 0
        assert lab.show("w")["vms"][0]["progress"] is None, "it is of that phase alone"
        assert waited.returncode == 1
        assert re.search(r": 1 propagating \([1-9]0 %\)", waited.stderr), waited.stderr
