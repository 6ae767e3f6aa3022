"""The Slurm that other tests rely on: four nodes, memory counted, nothing left behind."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import processes
from tests.real.slurm import Settings, SlurmCluster, Survivors, wait_until
from tests.real.user_install import REPO, UserInstall

pytestmark = pytest.mark.real
SLEEP = "#!/bin/sh\nexec sleep 60\n"


def test_four_nodes_are_idle_soon(slurm_with: Callable[[Settings], SlurmCluster]) -> None:
    before = time.monotonic()
    cluster = slurm_with(Settings())
    assert time.monotonic() - before < 10
    assert cluster.node_states() == {f"node0{n}": "idle" for n in (1, 2, 3, 4)}


def test_a_job_of_the_user_runs_on_four_nodes(slurm: SlurmCluster) -> None:
    script = "#!/bin/sh\nsrun -N4 -n4 sh -c 'echo $SLURMD_NODENAME $(id -un)'\n"
    job = slurm.submit(script, "-N4", "-o", "out-%j")
    slurm.wait_for_job(job, "COMPLETED")
    lines = (slurm.user.home / f"out-{job}").read_text().split("\n")
    assert sorted(filter(None, lines)) == [f"{node} {slurm.user.name}" for node in slurm.nodes]


def test_memory_is_counted(slurm: SlurmCluster) -> None:
    """Two jobs of 60 % of a node's memory, one CPU each, must not share a node."""
    size = f"--mem={int(slurm.settings.memory * 0.6)}"
    jobs = [slurm.submit(SLEEP, "-w", "node01", "-n1", size) for _ in range(2)]
    slurm.wait_for_job(jobs[0], "RUNNING")
    other = slurm.submit(SLEEP, "-n1", size, "-x", "node03,node04")
    slurm.wait_for_job(other, "RUNNING")
    assert slurm.jobs()[jobs[1]] == "PENDING"
    assert slurm.job(other)["NodeList"] == "node02"
    slurm.run(["scancel", *map(str, (*jobs, other))])
    for job in (*jobs, other):
        slurm.wait_for_job(job, "CANCELLED")
    assert wait_until(lambda: set(slurm.node_states().values()) == {"idle"}, 10)


def test_an_operator_can_requeue_a_job_that_asked_not_to_be(slurm: SlurmCluster) -> None:
    script = "#!/bin/sh\necho start >> starts-$SLURM_JOB_ID\nexec sleep 60\n"
    job = slurm.submit(script, "--no-requeue", "-o", "/dev/null")
    starts = slurm.user.home / f"starts-{job}"
    assert wait_until(starts.exists, 10)
    slurm.requeue(job)
    assert wait_until(lambda: starts.read_text().count("start") == 2, 20), str(slurm.job(job))
    slurm.run(["scancel", str(job)])
    slurm.wait_for_job(job, "CANCELLED")


def test_torque_commands_are_there(slurm: SlurmCluster) -> None:
    script = slurm.user.home / "job.sh"
    slurm.run(["tee", "job.sh"], stdin=SLEEP)
    job = slurm.run(["qsub", str(script)]).stdout.strip()
    assert job.isdigit()
    assert job in slurm.run(["qstat", job]).stdout
    slurm.run(["qdel", job])
    slurm.wait_for_job(int(job), "CANCELLED")


def test_drain_and_resume(slurm: SlurmCluster) -> None:
    slurm.drain("node04")
    assert slurm.node_states()["node04"] == "drained"
    slurm.resume("node04")
    assert wait_until(lambda: slurm.node_states()["node04"] == "idle", 10)


def test_a_frozen_controller_answers_nobody(slurm: SlurmCluster) -> None:
    slurm.freeze_controller()
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            slurm.run(["squeue"], timeout=1.5)
    finally:
        slurm.thaw()
    assert wait_until(lambda: slurm.run(["squeue"], check=False).returncode == 0, 10)


def commands(cluster: SlurmCluster) -> list[str]:
    return [process.command() for process in cluster.user.processes()]


def test_a_failed_node_takes_its_jobs_along_and_comes_back(
    slurm_with: Callable[[Settings], SlurmCluster],
) -> None:
    cluster = slurm_with(Settings(options=(("SlurmdTimeout", "3"),)))
    job = cluster.submit(SLEEP, "-w", "node02", "--no-requeue")
    other = cluster.submit(SLEEP, "-w", "node03")
    for number in (job, other):
        cluster.wait_for_job(number, "RUNNING")
    assert wait_until(lambda: commands(cluster) == ["sleep 60"] * 2, 10)
    stepds = len(cluster._stepds())
    cluster.fail_node("node02")
    assert commands(cluster) == ["sleep 60"]
    assert len(cluster._stepds()) == stepds - 1
    cluster.wait_for_job(job, "NODE_FAIL", seconds=60)
    assert cluster.jobs()[other] == "RUNNING"
    cluster.start_node("node02")
    assert wait_until(lambda: cluster.node_states()["node02"] == "idle", 20)


def test_an_epilog_runs_as_root(slurm_with: Callable[[Settings], SlurmCluster]) -> None:
    cluster = slurm_with(
        Settings(epilog='#!/bin/sh\n/bin/echo "$SLURM_JOB_ID $SLURM_JOB_UID" >> "${0%/*}/ended"\n')
    )
    job = cluster.submit("#!/bin/sh\n", "-o", "/dev/null")
    cluster.wait_for_job(job, "COMPLETED")
    ended = cluster.root / "ended"
    assert wait_until(ended.exists, 10)
    assert ended.read_text() == f"{job} {cluster.user.uid}\n"


def is_gone(cluster: SlurmCluster, root: Path, name: str, uid: int) -> bool:
    """No directory, no user, no process."""
    mine = [p for p in processes.everything() if str(root) in p.command()]
    try:
        pwd.getpwnam(name)
    except KeyError:
        pass
    else:
        return False
    return not root.exists() and not mine and not cluster._stepds()


def test_stop_with_jobs_running_and_the_controller_frozen_leaves_nothing() -> None:
    cluster = SlurmCluster().start()
    root, name, uid = cluster.root, cluster.user.name, cluster.user.uid
    job = cluster.submit("#!/bin/sh\nsrun -N4 -n4 sleep 60\n", "-N4")
    cluster.submit(SLEEP, "-N4", "--exclusive")
    cluster.wait_for_job(job, "RUNNING")
    cluster.freeze_controller()
    cluster.stop()
    assert is_gone(cluster, root, name, uid)
    cluster.stop()


def test_what_outlives_its_job_is_reported_and_killed() -> None:
    cluster = SlurmCluster().start()
    root, name, uid = cluster.root, cluster.user.name, cluster.user.uid
    job = cluster.submit(
        "#!/bin/sh\npython3 -c 'import os,time\n"
        "if os.fork() == 0:\n os.setsid()\n if os.fork() == 0: time.sleep(77)\n os._exit(0)'\n"
    )
    cluster.wait_for_job(job, "COMPLETED", "COMPLETING")
    with pytest.raises(Survivors, match=r"time\.sleep\(77\)"):
        cluster.stop()
    assert is_gone(cluster, root, name, uid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_daemons_end_with_whoever_started_them(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C removes all; after kill -9 the daemons end, and the next run removes the user."""
    program = (
        "import time\nfrom tests.real.slurm import SlurmCluster\n"
        "c = SlurmCluster().start()\nprint(c.root, c.user.name, c.user.uid, flush=True)\n"
        "time.sleep(60)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPO, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    root, name, uid = child.stdout.readline().split()
    child.send_signal(number)
    child.communicate(timeout=30)

    def ended() -> bool:
        return not [p for p in processes.everything() if root in p.command()]

    assert wait_until(ended, 15)
    with SlurmCluster() as cluster:
        if number == signal.SIGKILL:
            subprocess.run(["rm", "-rf", root], check=True)
        assert is_gone(cluster, Path(root), name, int(uid))


def test_the_user_can_run_wspilot(slurm: SlurmCluster, user_install: UserInstall) -> None:
    code = "import wspilot, watchdog, textual, sys; print(sys.executable, wspilot.__file__)"
    told = slurm.run([user_install.python, "-c", code]).stdout
    assert str(user_install.root) in told and str(REPO) not in told
    assert os.access(user_install.wspilot, os.X_OK)
