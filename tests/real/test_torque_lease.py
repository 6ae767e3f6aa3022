"""Driver `torque` over Slurm's Torque commands: it tolerates such a site (no grace is promised)."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.real.leasing import Leasing
from tests.real.slurm import SlurmCluster
from tests.real.user_install import UserInstall

# Submits for real, then loses the answer once: what a frozen server does (torque.md, 17).
LOSING_QSUB = """\
#!/bin/sh
if [ -e "$0.lost" ]; then exec /usr/bin/qsub "$@"; fi
touch "$0.lost"
/usr/bin/qsub "$@" >"$0.lost"
echo "Socket timed out on send/recv operation" >&2
exit 1
"""


@pytest.fixture(scope="module")
def site(slurm: SlurmCluster, user_install: UserInstall) -> Iterator[Leasing]:
    made = Leasing(slurm, user_install, "torque", vmm="sim", lrm="torque", more='start = "srun"')
    yield made
    made.stop()


def test_a_single_vm_from_request_to_end(site: Leasing) -> None:
    ws = site.deploy(1, "single")
    assert ws["state"] == "active" and ws["vms"][0]["node"].startswith("node0")
    job = int(ws["slots"][0]["job"])
    assert site.destroy("single")["outcome"] == "destroyed"
    assert site.cluster.wait_for_job(job, "COMPLETED") == "COMPLETED"


def test_four_nodes_are_four_nodes(site: Leasing) -> None:
    ws = site.deploy(4, "four")
    assert len({vm["node"] for vm in ws["vms"]}) == 4
    site.destroy("four")


def test_destroy_while_queued(site: Leasing) -> None:
    blocker = site.cluster.submit("#!/bin/sh\nsleep 600\n", "-N4", "--exclusive")
    try:
        site.deploy(1, "queued", wait=False)
        site.until("queued", lambda ws: ws["slots"][0]["state"] == "queued")
        assert site.destroy("queued")["outcome"] == "destroyed"
    finally:
        site.cluster.run(["scancel", str(blocker)])


def test_a_lost_qsub_answer_is_found_by_name_and_not_submitted_again(site: Leasing) -> None:
    stand_in = site.home / "bin"
    stand_in.mkdir()
    (stand_in / "qsub").write_text(LOSING_QSUB)
    (stand_in / "qsub").chmod(0o755)
    for path in (stand_in, stand_in / "qsub"):
        os.chown(path, site.cluster.user.uid, site.cluster.user.gid)
    site.end_daemon()
    site.path = str(stand_in)
    site.start()
    before = set(site.cluster.jobs())
    ws = site.deploy(1, "lost")
    new = set(site.cluster.jobs()) - before
    lost = int((stand_in / "qsub.lost").read_text())
    assert new == {lost} and ws["slots"][0]["job"] == str(lost)
    assert any("found the lost job" in text for text in site.events())
    site.destroy("lost")
