"""Reading a batch system's answer of 1,000 jobs (budget: 200 ms of daemon CPU)."""

from __future__ import annotations

from tests.bench.measure import sample, show
from wspilot.daemon.lrm.base import Result
from wspilot.daemon.lrm.site import batch_settings
from wspilot.daemon.lrm.slurm import SlurmDriver
from wspilot.daemon.lrm.torque import TorqueDriver

JOBS = 1000


def run() -> None:
    """Print the table."""
    torque, slurm = TorqueDriver(batch_settings({}, 2.0)), SlurmDriver(batch_settings({}, 30.0))
    xml, text, table = _answers()
    for driver, result in ((torque, xml), (torque, text), (slurm, table)):
        assert len(driver.polled(result, ()).jobs) == JOBS
    show(
        f"one poll of {JOBS} jobs read",
        [
            sample("squeue", 20, lambda: slurm.polled(table, ())),
            sample("qstat -x (XML)", 20, lambda: torque.polled(xml, ())),
            sample("qstat -f (text)", 20, lambda: torque.polled(text, ())),
        ],
    )


def _answers() -> tuple[Result, Result, Result]:
    fields = {
        "Job_Name": "ws-abcdefgh-01",
        "Job_Owner": "ann@head",
        "job_state": "R",
        "exec_host": "node04/0-3+node03/0-3+node02/0-3+node01/0-3",
        "ctime": "1795383898",
        "Variable_List": "PBS_O_QUEUE=batch," + "X" * 400,
        "comment": "Job started",
    }
    inner = "".join(f"<{key}>{value}</{key}>" for key, value in fields.items())
    xml = "".join(f"<Job><Job_Id>{n}.head</Job_Id>{inner}</Job>" for n in range(JOBS))
    lines = "".join(f"    {key} = {value}\n" for key, value in fields.items())
    text = "\n".join(f"Job Id: {n}.head\n{lines}" for n in range(JOBS))
    table = "".join(f"{n + 1}|ann|RUNNING|node[01-04]|None|ws-abcdefgh-01\n" for n in range(JOBS))
    return (
        Result(("qstat",), 0, f"<?xml version='1.0'?><Data>{xml}</Data>".encode()),
        Result(("qstat",), 0, text.encode()),
        Result(("squeue",), 0, table.encode()),
    )
