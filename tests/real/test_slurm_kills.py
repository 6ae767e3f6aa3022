"""Kills without grace on a real Slurm, with real guests: every process of the job at once, a pilot,
the daemon, slurmctld, a node's slurmd. Each ends as DESIGN.md section 9 says, nothing left in ps.

The job's kills come with the next exclusive job already queued on the same nodes: how long the two
overlap is measured and printed, and with `kill-all` as Slurm's Epilog there is no overlap.
"""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.killing import Lease, Overlap, overlap
from tests.real.leasing import Leasing
from tests.real.slurm import Settings, SlurmCluster, wait_until
from tests.real.user_install import UserInstall
from wspilot.guest import build_guest, default_cache
from wspilot.nodecode import build

pytestmark = pytest.mark.real
RESTORE_S, SLOW_S = 5.0, 6.0
EPILOG = """\
#!/bin/sh
PATH=/usr/bin:/bin
python3 -I {root}/wspilot-node.pyz kill-all --job "$SLURM_JOB_ID" --json >>{root}/epilog.log 2>&1
"""
_names = (f"k{n}" for n in itertools.count(1))


def kill_everything(lease: Lease) -> None:
    """SIGKILL to every process that Slurm knows of the job, launcher, pilots and QEMU alike."""
    while doomed := lease.inside():
        for process in doomed:
            process.kill()


def scancel_kill(lease: Lease) -> None:
    lease.cluster.run(["scancel", "--signal=KILL", "--full", str(lease.job)], as_user=False)


def kill_launcher(lease: Lease) -> None:
    """As a launcher that dies of its TERM: the job is over, its steps are not."""
    lease.named(" launch --spool").kill()


def kill_everything_on_a_slow_node(lease: Lease) -> None:
    """The guardians get no processor for six seconds: what a node that swaps looks like."""
    guardians = [lease.named("wspilot-guardian", node) for node in lease.nodes]
    for guardian in guardians:
        guardian.kill(signal.SIGSTOP)
    kill_everything(lease)
    for guardian in guardians:
        threading.Timer(SLOW_S, guardian.kill, (signal.SIGCONT,)).start()


KILLS: dict[str, Callable[[Lease], None]] = {
    "every process": kill_everything,
    "scancel --signal=KILL --full": scancel_kill,
    "the launcher": kill_launcher,
    "every process, slow node": kill_everything_on_a_slow_node,
}


@pytest.fixture(scope="module")
def images() -> Path:
    return build_guest(default_cache() / "guest", default_cache() / "deb").out


@pytest.fixture(scope="module")
def site(user_install: UserInstall, images: Path) -> Iterator[Leasing]:
    """Two nodes, no Epilog."""
    with SlurmCluster(Settings(nodes=2)) as cluster:
        made = Leasing(cluster, user_install, "kills", vmm="qemu", images=images)
        yield made
        made.stop()


@pytest.fixture(scope="module")
def epilog_site(
    user_install: UserInstall, images: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Leasing]:
    """Two nodes whose Epilog is kill-all, from a copy that root owns."""
    root = tmp_path_factory.mktemp("libexec")
    build(root / "wspilot-node.pyz")
    settings = Settings(nodes=2, epilog=EPILOG.format(root=root))
    with SlurmCluster(settings) as cluster:
        made = Leasing(cluster, user_install, "epilog", vmm="qemu", images=images)
        yield made
        made.stop()
    told = (root / "epilog.log").read_text().splitlines()
    assert told and all('"clean": true' in line for line in told), told


def is_over(lease: Lease) -> dict[str, Any]:
    """The lease has ended with a cause; no node drained, no job stuck, nothing left in ps."""
    ended = lease.site.ended(lease.name, 60)
    assert ended["outcome"] in ("failed", "preempted") and ended["cause"], ended
    assert all(vm["state"] == "terminated" for vm in ended["vms"]), ended
    over = ("COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL")
    lease.cluster.wait_for_job(lease.job, *over, seconds=30)
    idle = wait_until(lambda: set(lease.cluster.node_states().values()) == {"idle"}, 40)
    assert idle, (lease.cluster.node_states(), lease.cluster.jobs(), lease.site.log())
    nothing_left(lease)
    return ended


def is_cache(path: Path) -> bool:
    """A node's image cache outlives leases, and the directory that it is in."""
    return path.name == "images" or [one.name for one in path.iterdir()] == ["images"]


def nothing_left(lease: Lease) -> None:
    def left() -> list[str]:
        return [p.command() for p in lease.cluster.user.processes() if lease.slot in p.command()]

    assert wait_until(lambda: not left() and not lease.guests(), 10), left()
    roots = [Path(f"/{top}/wspilot-{lease.cluster.user.uid}") for top in ("tmp", "var/tmp")]

    def files() -> list[Path]:
        found = [path for root in roots for node in lease.nodes for path in root.glob(f"{node}/**")]
        return [path for path in found if not is_cache(path)]

    assert wait_until(lambda: not files(), 5), files()


def give_up(lease: Lease) -> None:
    """Nobody was left to speak for the nodes: the operator looks, and says that they are clean."""
    nothing_left(lease)
    site = lease.site
    site.cli("destroy", lease.name, "--yes", "--abandon", "--timeout", "60", timeout=90)
    for node in lease.nodes:
        site.cli("nodes", "forget", node)


def measured(lease: Lease, how: str, capsys: pytest.CaptureFixture[str], where: str) -> Overlap:
    seen = overlap(lease, lambda: KILLS[how](lease))
    with capsys.disabled():
        print(f"\n  {where}: {how}: {seen}")
    return seen


@pytest.mark.parametrize("how", KILLS)
def test_a_kill_without_grace_is_undone_within_the_restore_budget(
    site: Leasing, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = Lease(site, next(_names))
    seen = measured(lease, how, capsys, "no Epilog")
    slow = SLOW_S if "slow" in how else 0.0
    assert slow <= seen.undo_s < RESTORE_S + slow
    assert (seen.undo_overlap_s > 1) == bool(slow), "with a slow undo there is one, and it is seen"
    is_over(lease)


@pytest.mark.parametrize("how", KILLS)
def test_with_kill_all_as_epilog_there_is_no_overlap(
    epilog_site: Leasing, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = Lease(epilog_site, next(_names))
    seen = measured(lease, how, capsys, "Epilog")
    assert seen.guests_overlap_s == 0 and seen.undo_overlap_s == 0
    if "slow" in how:
        give_up(lease)
    else:
        is_over(lease)


def test_with_the_guardians_killed_too_the_epilog_undoes(epilog_site: Leasing) -> None:
    lease = Lease(epilog_site, next(_names))

    def kill() -> None:
        for node in lease.nodes:
            lease.named(" pilot --spool", node).kill(signal.SIGSTOP)  # or it forks another one
            lease.named("wspilot-guardian", node).kill()
        kill_everything(lease)

    seen = overlap(lease, kill)
    assert seen.guests_overlap_s == 0 and seen.undo_overlap_s == 0
    give_up(lease)


def test_kill_9_of_a_pilot(site: Leasing) -> None:
    lease = Lease(site, next(_names))
    lease.named(" pilot --spool", lease.nodes[0]).kill()
    ended = is_over(lease)
    assert "guardian" in ended["cause"]
    addresses = {nic["ip"] for vm in ended["vms"] for nic in vm["nics"]}
    again = Lease(site, next(_names))  # the node said so: they are free again
    assert {nic["ip"] for vm in again.workspace["vms"] for nic in vm["nics"]} == addresses
    site.destroy(again.name)


def test_a_suspended_job_is_shown_and_its_guests_go_on_afterwards(site: Leasing) -> None:
    lease = Lease(site, next(_names))
    before = sorted(guest.pid for guest in lease.guests())
    site.cluster.run(["scontrol", "suspend", str(lease.job)], as_user=False)
    assert wait_until(lambda: sum("is stopped" in text for text in site.events()) == 2, 10)
    assert lease.named("wspilot-guardian", lease.nodes[0]).state not in "Tt"
    site.cluster.run(["scontrol", "resume", str(lease.job)], as_user=False)
    assert wait_until(lambda: sum("no longer stopped" in text for text in site.events()) == 2, 10)
    assert sorted(guest.pid for guest in lease.guests()) == before
    assert site.show(lease.name)["state"] == "active"
    assert site.destroy(lease.name)["outcome"] == "destroyed"
    nothing_left(lease)


def test_kill_9_of_the_daemon_and_of_slurmctld_and_of_a_slurmd(site: Leasing) -> None:
    """One lease lives through all three, with its guests, and ends as ordered."""
    lease = Lease(site, next(_names))
    before = sorted(guest.pid for guest in lease.guests())
    site.end_daemon(signal.SIGKILL)
    site.start()
    site.cluster.wait_until_saved(lease.job)
    site.cluster.kill_daemon("slurmctld")
    site.cluster.start_controller()
    site.cluster.kill_daemon(f"slurmd {lease.nodes[0]}")
    site.cluster.start_node(lease.nodes[0])
    site.cluster.wait_for_nodes()
    ws = site.until(lease.name, lambda ws: ws["state"] == "active")
    assert len(ws["slots"]) == 1 and sorted(guest.pid for guest in lease.guests()) == before
    assert site.cluster.jobs()[lease.job] == "RUNNING"
    assert site.destroy(lease.name)["outcome"] == "destroyed"
    nothing_left(lease)
    assert site.cluster.wait_for_job(lease.job, "COMPLETED") == "COMPLETED"
