"""The readers of qsub, qstat (XML and text), squeue and the built-in batch system.

Whatever they are given is a `Listing` or an `Answer`: ids that the same driver can cancel, texts
that a terminal can show, and no more hosts than a cluster has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.unit.fuzz.harness import WORDS, Check, Target, bent, bent_doc, harmless
from tests.unit.lrm.recordings import DATA, steps
from wspilot.daemon.lrm.base import Driver, Result, Verdict
from wspilot.daemon.lrm.local import LocalDriver
from wspilot.daemon.lrm.site import LocalSettings, batch_settings
from wspilot.daemon.lrm.slurm import SlurmDriver
from wspilot.daemon.lrm.torque import TorqueDriver

MOST_HOSTS = 65_536
TORQUE = TorqueDriver(batch_settings({}, 2.0))
WRAPPER = TorqueDriver(batch_settings({"start": "srun"}, 30.0))
SLURM = SlurmDriver(batch_settings({}, 30.0))
LOCAL = LocalDriver(LocalSettings(), Path("/nonexistent"))


def _outputs(*beginnings: str) -> list[bytes]:
    """Distinct recorded answers, each at most 4 KiB: enough for every shape there is."""
    found: dict[bytes, None] = {}
    for path in sorted(DATA.iterdir()):
        for step in steps(path.stem):
            if step.cmd.startswith(beginnings):
                for raw in (step.result.out, step.result.err):
                    found[raw[:4096]] = None
    return list(found)


_BOMB = (
    b"<?xml version='1.0'?><!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;'>"
    b"<!ENTITY c '&b;&b;&b;&b;&b;&b;&b;'>]><Data><Job><Job_Id>1.h</Job_Id><comment>&c;</comment>"
    b"</Job></Data>"
)
QSTAT = [*_outputs("qstat"), _BOMB]
SQUEUE = [b"12|ann|RUNNING|node[01-04,07],login|None|ws-abcdefgh-01\n"
          b"13|ann|PENDING||JobHeldUser|ws-abcdefgh-02\n14_[1-9]|ann|PENDING||Priority|array\n",
          *_outputs("squeue")]  # fmt: skip
QSUB = _outputs("qsub", "sbatch", "qdel", "scancel")
JOB = {"id": "1", "name": "ws-abcdefgh-01", "owner": "ann", "state": "running",
       "hosts": ["node01"], "exit": None, "reason": ""}  # fmt: skip
LISTS: list[Any] = [{"jobs": [JOB, {**JOB, "id": "2", "exit": 0, "state": "done"}]}, {"jobs": []},
                    {"id": "1"}, {"gone": True}]  # fmt: skip
_codes = st.sampled_from([0, 0, 0, 1, 153, 170, -9, None])
_local = st.one_of(bent_doc(LISTS).map(lambda doc: json.dumps(doc).encode()),
                   st.sampled_from(WORDS).map(lambda word: json.dumps(word).encode()),
                   bent([json.dumps(doc).encode() for doc in LISTS]))  # fmt: skip


def _answers(driver: Driver, outs: Any) -> Any:
    return st.tuples(st.just(driver), _codes, outs, st.one_of(st.just(b""), bent(QSUB)))


def _check(value: tuple[Driver, int | None, bytes, bytes]) -> None:
    driver, rc, out, err = value
    result = Result(("x",), rc, out, err)
    listing = driver.polled(result, ())
    assert listing.ok or (not listing.jobs and listing.text and harmless(listing.text))
    assert rc in (0, 153) or not listing.ok
    for id, job in listing.jobs.items():
        assert id == job.id
        driver.cancel(job.id)
        for text in (id, job.name, job.owner, job.raw, job.reason, *job.hosts):
            assert isinstance(text, str) and harmless(text), text
        assert job.exit_status is None or isinstance(job.exit_status, int)
    hosts = [len(job.hosts) for job in listing.jobs.values()]
    assert max(hosts, default=0) <= MOST_HOSTS
    answer = driver.submitted(result)
    if answer.verdict is Verdict.ACCEPTED:
        assert rc == 0
        driver.cancel(answer.job_id)
    assert harmless(answer.text) and harmless(driver.cancelled(result).text)


@contextmanager
def _open() -> Iterator[Check]:
    yield _check


TARGETS = (
    Target("qstat", _answers(TORQUE, bent(QSTAT)), _open),
    Target("qstat of Slurm", _answers(WRAPPER, bent(QSTAT)), _open),
    Target("squeue", _answers(SLURM, bent(SQUEUE)), _open),
    Target("qsub", st.one_of(_answers(TORQUE, bent(QSUB)), _answers(SLURM, bent(QSUB)),
                             _answers(WRAPPER, bent(QSUB))), _open),
    Target("local list", _answers(LOCAL, _local), _open),
)  # fmt: skip
