"""The larger examples as they stand, with real guests: each member reaches every other by name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tomllib

from tests.real.lab import Lab
from tests.real.test_ctx_osg import EXAMPLE, MEETS_ALL, toml
from wspilot.guest import build_guest, default_cache

pytestmark = pytest.mark.real
LARGE = '[[type]]\nname = "large"\ncpus = 1\nmemory = "128MiB"\ndisk = "1GiB"\n'


def meet(name: str, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """What `show` says of an example once all its members have met, and the workspace."""
    doc = tomllib.loads((EXAMPLE.parent / f"{name}.toml").read_text())
    for group in doc["group"]:
        group["user_data"] = MEETS_ALL
    guest = build_guest(default_cache() / "guest", default_cache() / "deb", disk=True)
    lab = Lab(tmp_path, guest, more=LARGE)
    try:
        file, workspace = toml(doc, tmp_path / "ensemble.toml"), doc["workspace"]["name"]
        lab.cli("deploy", file, "--wait", "--timeout", "280")
        ws = lab.until(workspace, lambda ws: all(vm["context"] == "ok" for vm in ws["vms"]))
        return lab.run("show", workspace).stdout, ws
    finally:
        lab.close()


def test_the_mpi_example_one_rank_a_node(tmp_path: Path) -> None:
    shown, ws = meet("mpi-cluster", tmp_path)
    said = {vm["name"]: vm["said"] for vm in ws["vms"]}
    assert said == {f"mpi/rank/{n}": f"rank-{n} met 4: mpi" for n in range(1, 5)}
    assert len({vm["node"] for vm in ws["vms"]}) == 4, "spread"
    assert "4 of 4 members say ok" in shown


def test_the_course_example_many_desks_a_node(tmp_path: Path) -> None:
    shown, ws = meet("teaching-room", tmp_path)
    said = {vm["name"]: vm["said"] for vm in ws["vms"]}
    desks = {f"course/desk/{n}": f"desk-{n} met 13: files" for n in range(1, 13)}
    assert said == {"course/server/1": "server-1 met 13: files", **desks}
    nodes = Counter(vm["node"] for vm in ws["vms"] if vm["group"] == "desk")
    assert len(nodes) < 12, "packed"
    assert "13 of 13 members say ok" in shown
