"""What an administrator runs on a Xen node by hand: selftest and bench."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.real.xen.machine import DOM0_MIB, XenHost
from tests.real.xen.xenslot import IMAGE, LIMIT, ZIPAPP, XenSlot, report

pytestmark = pytest.mark.real
CURRENT = "/sys/devices/system/xen_memory/xen_memory0/info/current_kb"


def judged(host: XenHost, user: str) -> tuple[int, dict[str, Any]]:
    """selftest's exit code, and its verdicts that are not `ok`."""
    done = host.run(f"python3 {ZIPAPP} selftest --json", user)
    checks = json.loads(done.out)["checks"]
    assert len(checks) > 3 or done.code  # whom the helper refuses it tells no more
    return done.code, {one["what"]: one for one in checks if one["state"] != "ok"}


def test_selftest_says_whether_this_node_fits_whoever_asks(host: XenHost) -> None:
    assert judged(host, "alice") == (0, {})
    code, found = judged(host, "games")  # no sudo rule
    assert code == 1 and list(found) == ["sudo rule and node.conf"]
    host.run("mv /dev/stdin /dev/away").ok()
    try:
        code, found = judged(host, "alice")
    finally:
        host.run("mv /dev/away /dev/stdin").ok()
    assert code == 1 and "/dev lacks stdin" in found["dev"]["text"]


def test_a_bench_that_is_killed_is_undone_from_its_journal(
    host: XenHost, slots: list[XenSlot]
) -> None:
    slot = XenSlot(host, bench={"rounds": 100, "mib": 128})
    slots.append(slot)
    slot.start()
    host.until(f"[ $(cat {CURRENT}) -lt {(DOM0_MIB - 64) * 1024} ]", LIMIT)
    slot.signal(9, "measure")
    found = report(host)
    assert found["clean"] and [one["slot"] for one in found["journals"]] == [slot.id]
    assert host.run(f"cat {CURRENT}").ok().strip() == str(DOM0_MIB * 1024)


def test_bench_measures_and_leaves_the_node_as_it_was(host: XenHost) -> None:
    guests = f"--guests 1 --kernel {IMAGE['kernel']} --initrd {IMAGE['initrd']}"
    done = host.run(f"python3 {ZIPAPP} bench --rounds 1 --mib 128 --json {guests}", "alice", 600)
    rows = {row["what"]: row for row in json.loads(done.ok())["figures"]}
    assert set(rows) == {"helper", "bare reduce", "bare restore", "bare list", "reduce", "restore",
                         "kill-all", "helper, VMs", "bare end", "kill-all, VMs"}  # fmt: skip
    assert all(row["median"] > 0 for row in rows.values()) and rows["reduce"]["n"] == 4
    assert rows["kill-all, VMs"]["over_bare"] > 0
    refused = host.run(f"python3 {ZIPAPP} bench --rounds 1", "games")  # no sudo rule
    assert refused.code == 1 and "sudo" in refused.err
    assert f"Domain-0                                     0  {DOM0_MIB}" in host.run("xl list").out
