"""Leases through a real four-node Slurm, as an ordinary user, by its own commands."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from tests.real.leasing import Leasing, vm_processes
from tests.real.slurm import SlurmCluster, wait_until
from tests.real.user_install import UserInstall
from wspilot.guest import build_guest, default_cache


@pytest.fixture(scope="module")
def site(slurm: SlurmCluster, user_install: UserInstall) -> Iterator[Leasing]:
    """VMM sim: the batch system is what is tried here."""
    made = Leasing(slurm, user_install, "sim", vmm="sim")
    yield made
    made.stop()


def test_a_single_vm_from_request_to_end(site: Leasing) -> None:
    ws = site.deploy(1, "single")
    vm = ws["vms"][0]
    assert ws["state"] == "active" and vm["state"] == "running" and vm["node"].startswith("node0")
    assert {"invoke", "create", "boot"} <= {span["name"] for span in vm["spans"]}
    job = int(ws["slots"][0]["job"])
    assert site.cluster.job(job)["Requeue"] == "0"
    site.destroy("single")
    assert site.cluster.wait_for_job(job, "COMPLETED") == "COMPLETED"  # by itself, exit 0
    assert site.show("single")["outcome"] == "destroyed"


def test_destroy_while_queued(site: Leasing) -> None:
    blocker = site.cluster.submit("#!/bin/sh\nsleep 600\n", "-N4", "--exclusive")
    try:
        ws = site.deploy(2, "queued", wait=False)
        site.until("queued", lambda ws: ws["slots"][0]["state"] == "queued")
        assert site.destroy("queued")["outcome"] == "destroyed"
        job = int(site.show("queued")["slots"][0]["job"])
        assert site.cluster.jobs()[job] == "CANCELLED", ws
    finally:
        site.cluster.run(["scancel", str(blocker)])


def test_a_lease_ends_by_time(site: Leasing) -> None:
    site.deploy(1, "short", duration="5s")
    ws = site.ended("short", 30)
    assert ws["outcome"] == "ok" and not ws["cause"] and ws["vms"][0]["state"] == "terminated"


def test_the_daemon_restarts_in_the_middle(site: Leasing) -> None:
    site.deploy(2, "restart", wait=False)
    site.end_daemon(signal.SIGKILL)
    time.sleep(1)
    site.start()
    ws = site.until("restart", lambda ws: ws["state"] == "active")
    assert len(ws["slots"]) == 1 and len({vm["node"] for vm in ws["vms"]}) == 2
    jobs = [job for job, state in site.cluster.jobs().items() if state == "RUNNING"]
    assert len(jobs) == 1
    site.destroy("restart")


def test_a_job_requeued_by_the_operator_starts_no_second_set_of_vms(site: Leasing) -> None:
    ws = site.deploy(1, "again")
    job = int(ws["slots"][0]["job"])
    site.cluster.requeue(job)
    ended = site.ended("again", 90)
    assert ended["outcome"] in ("preempted", "failed") and ended["cause"]
    site.cluster.wait_for_job(job, "COMPLETED", "CANCELLED", "FAILED", seconds=60)
    assert wait_until(lambda: not vm_processes(str(site.home / "spool/bin")), 10)
    slot = site.home / "spool/slots" / ws["slots"][0]["id"]
    assert len(list(slot.glob("epoch.*"))) <= 2


def test_a_walltime_kill_is_a_preemption_and_leaves_nothing(site: Leasing) -> None:
    ws = site.deploy(2, "walltime", duration="10m")
    job = ws["slots"][0]["job"]
    site.cluster.run(["scontrol", "update", f"JobId={job}", "TimeLimit=1"], as_user=False)
    ended = site.ended("walltime", 150)
    assert ended["outcome"] == "preempted" and "SIGTERM" in ended["cause"]
    assert all(vm["state"] == "terminated" for vm in ended["vms"])


def test_four_real_guests(slurm: SlurmCluster, user_install: UserInstall) -> None:
    guest = build_guest(default_cache() / "guest", default_cache() / "deb")
    site = Leasing(slurm, user_install, "qemu", vmm="qemu", images=guest.out)
    try:
        ws = site.deploy(4, "real", duration="10m")
        assert [vm["state"] for vm in ws["vms"]] == ["running"] * 4
        assert len({vm["node"] for vm in ws["vms"]}) == 4
        assert len(vm_processes("guest=real/vm/")) == 4
        assert site.destroy("real")["outcome"] == "destroyed"
        assert wait_until(lambda: not vm_processes(str(site.home / "spool/bin")), 10)
    finally:
        site.stop()
