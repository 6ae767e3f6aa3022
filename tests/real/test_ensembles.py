"""Every example on the built-in site, single members given up, and slots that change hands."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from tomli import loads

from tests.real.builtin import Builtin, builtin
from tests.unit.sites import ROOT
from wspilot.errors import Refused, WspilotError

pytestmark = pytest.mark.real
EXAMPLES = {"single": 1, "osg-cluster": 4, "mpi-cluster": 4, "teaching-room": 13}
FAR = """\
#!/bin/sh
# like ssh: another session, one word for a shell, no signal but the end of its input
echo "$1" >>{calls}
exec setsid -w sh -c "$2"
"""


def example(name: str) -> dict[str, Any]:
    return dict(loads((ROOT / "examples" / f"{name}.toml").read_text()))


def deployed(one: Builtin, name: str, **change: Any) -> dict[str, Any]:
    """An example, active."""
    ws = one.deploy(ensemble={**example(name), **change})
    return one.wait(ws["id"])


def test_the_examples_are_all_tried() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.toml")} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_deployed_together_and_ends(name: str) -> None:
    with builtin() as one:
        ws = deployed(one, name)
        assert ws["state"] == "active" and len(ws["vms"]) == EXAMPLES[name]
        assert {vm["state"] for vm in ws["vms"]} == {"running"}
        doc = {group["name"]: group for group in example(name)["group"]}
        for vm in ws["vms"]:
            wanted = doc[vm["group"]].get("nics", ["private"])
            assert [nic["network"] for nic in vm["nics"]] == wanted
        ips = [nic["ip"] for vm in ws["vms"] for nic in vm["nics"]]
        assert len(set(ips)) == len(ips)
        spread = [vm["node"] for vm in ws["vms"]
                  if doc[vm["group"]].get("placement", "spread") == "spread"]  # fmt: skip
        assert len(set(spread)) == len(spread)  # a node for each
        ended = one.end(ws["id"])
        assert (ended["state"], ended["outcome"]) == ("ended", "destroyed")
        assert not [row for row in one.call("fsck", prove=True)["proofs"] if not row["proved"]]


def test_groups_of_unequal_size_are_not_flattened_to_the_largest() -> None:
    with builtin(site='jobs = "per-workspace"') as one:
        ws = deployed(one, "osg-cluster")
        size = {
            slot["id"]: (slot["ppn"], slot["memory_mib"], slot["count"]) for slot in ws["slots"]
        }
        found = {vm["group"]: size[vm["slot"]] for vm in ws["vms"]}
        assert found == {"ce": (2, 256, 2), "se": (2, 256, 2), "worker": (1, 128, 2)}
        one.end(ws["id"])


def test_a_member_that_is_destroyed_gives_its_node_back_before_the_others() -> None:
    with builtin(site='jobs = "per-node"') as one:
        ws = deployed(one, "osg-cluster")
        name, node = (
            "osg/worker/2",
            next(vm["node"] for vm in ws["vms"] if vm["name"] == "osg/worker/2"),
        )
        one.destroy(name)
        one.until(ws["id"], lambda now: sum(s["state"] == "released" for s in now["slots"]) == 1)
        now = one.show(ws["id"])
        assert now["state"] == "active" and now["wanted"] == "active"
        states = {vm["name"]: vm["state"] for vm in now["vms"]}
        assert states.pop(name) == "terminated" and set(states.values()) == {"running"}
        jobs = [slot for slot in now["slots"] if slot["state"] == "ready"]
        assert len(jobs) == 3 and node not in [n for slot in jobs for n in slot["nodes"]]
        taken = one.deploy(type="small", count=1, duration="10m")  # four nodes, three in use
        assert one.wait(taken["id"])["vms"][0]["node"] == node
        one.destroy("osg/worker")  # a whole group
        one.until(ws["id"], lambda now: sum(s["state"] == "released" for s in now["slots"]) == 2)
        assert one.show(ws["id"])["state"] == "active"
        one.end(taken["id"])
        assert one.end(ws["id"])["outcome"] == "destroyed"


def test_all_or_nothing_and_a_minimum_that_is_still_met() -> None:
    no = '{ create = "no room" }'
    with builtin(more=f'fail = {{ "course/desk/3" = {no}, "osg/se/1" = {no} }}') as one:
        ws = deployed(one, "teaching-room")
        states = [vm["state"] for vm in ws["vms"]]
        assert states.count("running") == 12 and ws["state"] == "degraded"
        one.end(ws["id"])
        osg = one.deploy(ensemble=example("osg-cluster"))
        with pytest.raises(WspilotError, match="can no longer become active"):
            one.wait(osg["id"])
        ended = one.wait(osg["id"], "ended")
        assert ended["outcome"] == "failed" and "osg/se/1" in ended["cause"]
        assert not [row for row in one.call("fsck", prove=True)["proofs"] if not row["proved"]]


def test_a_network_whose_addresses_are_all_held_refuses_and_changes_nothing() -> None:
    more = '[network.private]\ncidr = "10.9.0.0/29"\n[network.public]\ncidr = "10.9.1.0/24"\n'
    with builtin(more=more) as one:
        first = one.deploy(type="small", count=4, duration="10m")
        with pytest.raises(Refused, match=r"network private has no free address: all 5 of"):
            one.deploy(ensemble=example("osg-cluster"))
        assert len(one.call("list")["workspaces"]) == 1
        one.end(first["id"])
        assert len(deployed(one, "osg-cluster")["vms"]) == 4  # they came back
        one.end("osg")


# -- slots that are longer, and slots that change hands


def test_padded_an_extension_is_granted_at_once_and_exact_has_no_room_for_it() -> None:
    with builtin() as one:
        ws = one.wait(one.deploy(type="small", count=1, duration="2m")["id"])
        with pytest.raises(Refused):
            one.call("extend", id=ws["id"], by="20m")
        one.end(ws["id"])
    with builtin(more='[policy]\nname = "padded"') as one:
        ws = one.wait(one.deploy(type="small", count=1, duration="2m")["id"])
        one.call("extend", id=ws["id"], by="20m")
        longer = one.show(ws["id"])
        assert longer["lease_s"] == 22 * 60 and longer["state"] == "active"
        assert not one.call("slots")["slots"][1:]  # the same one
        one.end(ws["id"])


def test_reuse_the_next_lease_takes_the_slot_of_one_that_ended_early() -> None:
    with builtin(more='[policy]\nname = "reuse"\nhold = "20s"') as one:
        first = one.wait(one.deploy(type="small", count=1, duration="10m", name="one")["id"])
        (slot,) = first["slots"]
        assert one.end(first["id"])["outcome"] == "destroyed"
        second = one.wait(one.deploy(type="small", count=1, duration="10m", name="two")["id"])
        assert [s["id"] for s in second["slots"]] == [slot["id"]]
        assert second["vms"][0]["node"] == first["vms"][0]["node"]
        assert sum("submit" in text and "exit 0" in text for text in one.events()) == 1
        one.end(second["id"])
        left = one.call("slots")["slots"]
        assert [s["workspace"] for s in left] == [""]
        _released(one, slot["id"])


def test_warm_a_slot_stands_ready_before_anybody_asks() -> None:
    more = '[policy]\nname = "warm"\nslots = 1\ntype = "small"\n'
    with builtin(more=more) as one:
        _some(one, lambda slot: slot["state"] == "ready")
        ws = one.wait(one.deploy(type="small", count=1, duration="10m")["id"])
        assert ws["slots"][0]["id"] and ws["state"] == "active"
        warm = ws["slots"][0]["id"]
        _some(one, lambda slot: slot["id"] != warm and slot["state"] == "ready")  # its successor
        one.end(ws["id"])
        # Another policy: nothing stands any more.
        one.stop()
        site = one.home / "site.toml"
        site.write_text(site.read_text().replace('"warm"\nslots = 1\ntype = "small"', '"exact"'))
        one.start()
        for slot in one.call("slots")["slots"]:
            _released(one, slot["id"])


def _released(one: Builtin, id: str) -> None:
    _some(one, lambda slot: slot["id"] == id and slot["state"] == "released")


def _some(one: Builtin, true: Any, seconds: float = 40) -> None:
    import time

    end = time.monotonic() + seconds
    while not any(map(true, one.call("slots")["slots"])):
        assert time.monotonic() < end, one.call("slots")
        time.sleep(0.1)


# -- hosts without a batch system


def test_a_static_pool_is_leased_through_what_stands_in_for_ssh(tmp_path: Path) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(FAR.format(calls=tmp_path / "calls"))
    ssh.chmod(ssh.stat().st_mode | stat.S_IXUSR)
    with builtin(lrm=f'via = ["{ssh}", "{{node}}", "{{command}}"]') as one:
        ws = deployed(one, "osg-cluster")
        used = sorted(vm["node"] for vm in ws["vms"])
        assert used == sorted(one.nodes) == sorted((tmp_path / "calls").read_text().split())
        assert one.end(ws["id"])["outcome"] == "destroyed"
        single = one.wait(one.deploy(type="small", count=1, duration="10m")["id"])
        assert single["vms"][0]["node"] == one.nodes[0]  # greedy: the first of the list
        one.end(single["id"])
        assert not [row for row in one.call("fsck", prove=True)["proofs"] if not row["proved"]]
