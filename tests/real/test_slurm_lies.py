"""The commands of a real Slurm fail, hang, lie and lose their answers: no lease notices, nothing is
submitted twice, and every destroy gets through once the truth is back."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.leasing import Leasing
from tests.real.slurm import SlurmCluster
from tests.real.user_install import UserInstall

pytestmark = pytest.mark.real
HELD_UP_S = 15.0  # a command that hangs is given up after 20
# What squeue, sbatch and scancel do is written in a file beside them; nothing: the truth.
STAND_IN = """\
#!/bin/sh
name=${0##*/}
way=$(cat "$0.way" 2>/dev/null)
[ -z "$way" ] || echo "$way" >>"$0.asked"
case "$way" in
fail) echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2
    exit 1 ;;
hang) exec sleep 600 ;;
empty) exit 0 ;;
cut) /usr/bin/$name "$@" | head -c 30; exit 0 ;;
lost) /usr/bin/$name "$@" >>"$0.lost"
    echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2
    exit 1 ;;
killed) echo x >>"$0.killed"; kill -9 $$ ;;
esac
exec /usr/bin/$name "$@"
"""


class Lies:
    """A daemon whose PATH begins with stand-ins."""

    def __init__(self, site: Leasing) -> None:
        self.site, self.bin = site, site.home / "bin"
        self.bin.mkdir()
        for name in ("squeue", "sbatch", "scancel"):
            (self.bin / name).write_text(STAND_IN)
            (self.bin / name).chmod(0o755)
        user = site.cluster.user
        for path in (self.bin, *self.bin.iterdir()):
            os.chown(path, user.uid, user.gid)
        site.end_daemon()
        site.path = str(self.bin)
        site.start()

    def tell(self, **ways: str) -> None:
        """From now on `squeue="fail"` and so on; an empty word is the truth."""
        for name, way in ways.items():
            (self.bin / f"{name}.way").write_text(way)

    def lines(self, name: str) -> list[str]:
        path = self.bin / name
        return path.read_text().split() if path.exists() else []

    def truth(self) -> None:
        self.tell(squeue="", sbatch="", scancel="")


@pytest.fixture(scope="module")
def lying(slurm: SlurmCluster, user_install: UserInstall) -> Iterator[Lies]:
    site = Leasing(slurm, user_install, "lies", vmm="sim")
    lies = Lies(site)
    yield lies
    lies.truth()
    site.stop()


def jobs_of(lying: Lies, before: set[int]) -> set[int]:
    return set(lying.site.cluster.jobs()) - before


@pytest.mark.parametrize("way", ["fail", "empty", "cut", "hang"])
def test_a_poll_that_lies_ends_no_lease(lying: Lies, way: str) -> None:
    site, name = lying.site, f"poll-{way}"
    before = set(site.cluster.jobs())
    lease = site.deploy(2, name)
    lying.tell(squeue=way)
    began, polls = time.monotonic(), 1 if way == "hang" else 6
    while lying.lines("squeue.asked").count(way) < polls or time.monotonic() - began < 6:
        assert time.monotonic() - began < 120, "it is not asked any more"
        asked = time.monotonic()
        ws = site.show(name)
        assert time.monotonic() - asked < HELD_UP_S, "one hung command holds up nobody"
        assert ws["state"] == "active" and {vm["state"] for vm in ws["vms"]} == {"running"}
        time.sleep(0.5)
    site.cli("destroy", name, "--yes", "--no-wait")
    site.until(name, lambda ws: all(vm["state"] == "terminated" for vm in ws["vms"]), 60)
    if way in ("fail", "hang"):  # the nodes are restored, and there is no end without its word
        last = "batch system"
        site.until(name, lambda ws: last in (ws["slots"][0]["waits_for"] or ""), 60)
        assert site.show(name)["state"] == "ending"
    lying.truth()
    ended = site.ended(name, 90)
    assert ended["outcome"] == "destroyed"
    job = int(lease["slots"][0]["job"])
    assert site.cluster.wait_for_job(job, "COMPLETED") == "COMPLETED"
    assert jobs_of(lying, before) == {job}


def test_an_answer_that_is_lost_is_looked_for(lying: Lies) -> None:
    site = lying.site
    before = set(site.cluster.jobs())
    lying.tell(sbatch="lost")
    ws = site.deploy(1, "lost")
    lying.truth()
    assert ws["state"] == "active"
    assert [int(word) for word in lying.lines("sbatch.lost")] == [int(ws["slots"][0]["job"])]
    assert site.destroy("lost")["outcome"] == "destroyed"
    assert jobs_of(lying, before) == {int(ws["slots"][0]["job"])}


def test_a_submission_that_died_is_made_again_after_two_looks(lying: Lies) -> None:
    site = lying.site
    before = set(site.cluster.jobs())
    lying.tell(sbatch="killed")
    site.deploy(1, "died", wait=False)
    site.until("died", lambda ws: bool(lying.lines("sbatch.killed")), 20)
    lying.truth()
    began = time.monotonic()
    ws = site.until("died", lambda ws: ws["state"] == "active", 60)
    assert time.monotonic() - began > 8, "a second try only after two good looks 10 s apart"
    assert len(lying.lines("sbatch.killed")) == 1
    assert site.destroy("died")["outcome"] == "destroyed"
    assert jobs_of(lying, before) == {int(ws["slots"][0]["job"])}


def test_destroyed_while_its_answer_is_lost(lying: Lies) -> None:
    site = lying.site
    before = set(site.cluster.jobs())
    lying.tell(sbatch="lost", squeue="hang")
    site.deploy(1, "both", wait=False)
    site.until("both", lambda ws: len(lying.lines("sbatch.lost")) == 2, 20)
    site.cli("destroy", "both", "--yes", "--no-wait")
    time.sleep(2)
    assert site.show("both")["state"] == "ending"
    lying.truth()
    assert site.ended("both", 60)["outcome"] == "destroyed"
    (job,) = jobs_of(lying, before)
    assert site.cluster.wait_for_job(job, "CANCELLED", "COMPLETED", "FAILED")


@pytest.mark.parametrize("way", ["fail", "empty"])
def test_a_cancellation_that_fails_or_is_not_heard_is_repeated(lying: Lies, way: str) -> None:
    """`empty`: scancel says nothing and does nothing, as when it is unheard."""
    site, name = lying.site, f"cancel-{way}"
    blocker = site.cluster.submit("#!/bin/sh\nsleep 600\n", "-N4", "--exclusive")
    try:
        ws = site.deploy(1, name, wait=False)
        ws = site.until(name, lambda ws: ws["slots"][0]["state"] == "queued")
        lying.tell(scancel=way)
        site.cli("destroy", name, "--yes", "--no-wait")
        ws = site.until(name, lambda ws: ws["slots"][0]["state"] == "releasing", 10)
        time.sleep(5)
        ws = site.show(name)
        assert ws["state"] == "ending" and ws["slots"][0]["waits_for"], ws
        lying.truth()
        assert site.ended(name, 45)["outcome"] == "destroyed"
        job = int(ws["slots"][0]["job"])
        assert site.cluster.wait_for_job(job, "CANCELLED") == "CANCELLED"
    finally:
        lying.truth()
        site.cluster.run(["scancel", str(blocker)])


def test_nothing_is_left(lying: Lies) -> None:
    leftovers = [
        path
        for top in ("tmp", "var/tmp")
        for path in Path(f"/{top}/wspilot-{lying.site.cluster.user.uid}").glob("node*/**/*")
        if "images" not in path.parts  # whole images stay for the next lease
    ]
    assert not leftovers
