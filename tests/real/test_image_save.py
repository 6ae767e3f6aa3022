"""`wspilot save` from the command line to the next lease, whose guest has what the first wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.lab import Lab
from tests.real.test_ctx_osg import toml
from wspilot.errors import Code
from wspilot.guest import build_guest, default_cache

pytestmark = pytest.mark.real
WRITES = "#!/bin/sh\necho $(hostname) wrote this >/kept; sync; cat /kept\n"
READS = "#!/bin/sh\ncat /kept\n"
# So that a small disk is reckoned with more than a minute. What of the boot budget is not used is
# there to be asked for.
SLOW = '[images]\nsave_rate = "1MiB"\n'
DATA_MIB = 64


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    guest = build_guest(default_cache() / "guest", default_cache() / "deb", disk=True)
    one = Lab(tmp_path, guest, more=SLOW)
    try:
        assert guest.disk is not None
        files = ("--kernel", str(guest.disk["kernel"]), "--initrd", str(guest.disk["initrd"]))
        with open(tmp_path / "data", "wb") as data:
            data.truncate(DATA_MIB << 20)
        append = ("--partition", f"{tmp_path / 'data'}", "--append", str(guest.disk["append"]))
        one.cli("images", "add", "first", str(guest.disk["disk"]), *files, *append)
        yield one
    finally:
        one.close()


def deploy(lab: Lab, tmp_path: Path, name: str, image: str, duration: str, script: str) -> str:
    """What its one guest said."""
    group = {"name": "g", "type": "small", "image": image, "user_data": script}
    doc: dict[str, Any] = {"workspace": {"name": name, "duration": duration}, "group": [group]}
    lab.cli("deploy", toml(doc, tmp_path / f"{name}.toml"), "--wait", "--timeout", "200")
    ws = lab.until(name, lambda ws: ws["vms"][0]["context"] in ("ok", "error"))
    return str(ws["vms"][0]["said"])


def test_a_saved_disk_boots_in_the_next_lease_and_one_that_would_not_be_done_in_time_is_refused(
    lab: Lab, tmp_path: Path
) -> None:
    assert deploy(lab, tmp_path, "a", "first", "1m", WRITES) == "g-1 wrote this"
    refused = lab.run("save", "a/g/1", "mine", "--timeout", "60")
    assert refused.returncode == Code.REFUSED, refused.stderr
    words = r"reckoned with 2m\d+s \(1 MiB/s\), and (1m|[1-5]?\ds) are left"
    assert re.search(words, refused.stderr), refused.stderr
    assert "wspilot extend first" in refused.stderr
    assert lab.show("a")["vms"][0]["state"] == "running"
    assert sorted(path.name for path in lab.images.iterdir()) == ["default", "first"]

    lab.cli("extend", "a", "--by", "3m")  # as it was told
    lab.cli("save", "a/g/1", "mine", "--timeout", "120")
    assert "mine" in lab.run("images").stdout
    assert deploy(lab, tmp_path, "b", "mine", "10m", READS) == "g-1 wrote this"
