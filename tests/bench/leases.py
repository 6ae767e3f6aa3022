"""Whole leases: 16 VMs against 1, the release, and the plain alternative to wspilot.

The plain alternative is a hand-written job script that starts the same guest on the same batch
system: what wspilot adds is the difference.
"""

from __future__ import annotations

import shlex
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from tests.bench.measure import Sample, sample, show
from tests.bench.site import BenchSite, bench_site
from wspilot.daemon.lrm.base import JobRequest, Verdict
from wspilot.daemon.lrm.local import LocalDriver
from wspilot.daemon.lrm.runner import run_blocking
from wspilot.daemon.lrm.site import LocalSettings
from wspilot.guest import GuestImage, build_guest, default_cache
from wspilot.nodecode import node_zipapp

RUNS = 3


def run() -> None:
    """Print the tables."""
    _sim()
    _real()


def _sim() -> None:
    zipapp, _ = node_zipapp()
    starts = _interpreters(zipapp)
    with bench_site() as site:
        site.lease(1)
        one = [site.lease(1) for _ in range(RUNS)]
        many = [site.lease(16) for _ in range(RUNS)]
    up = [
        Sample(f"{count} VMs active (sim, boot 2 s)", tuple(run[0] for run in runs))
        for count, runs in ((1, one), (16, many))
    ]
    show("time to active", up, 1.0, "s")
    show("pilots' interpreter starts alone", starts, 1.0, "s")
    net = [up[0].median - 2.0 - starts[0].median, up[1].median - 2.0 - starts[1].median]
    print(f"  less boot and interpreter starts: {net[0]:.2f} s and {net[1]:.2f} s")
    show(
        "destroy asked to ended (VMs stopped, node restored, job gone)",
        [
            Sample("1 VM", tuple(run[1] for run in one)),
            Sample("16 VMs", tuple(run[1] for run in many)),
        ],
        1.0,
        "s",
    )


def _interpreters(zipapp: Path) -> list[Sample]:
    """What this host spends on starting 1 and 16 pilots at once, whatever they then do."""
    import sys

    argv = [sys.executable, str(zipapp), "--help"]

    def start(count: int) -> None:
        children = [subprocess.Popen(argv, stdout=subprocess.DEVNULL) for _ in range(count)]
        for child in children:
            child.wait()

    return [sample(f"{count} at once", RUNS, lambda n=count: start(n)) for count in (1, 16)]


def _real() -> None:
    guest = build_guest(default_cache() / "guest", default_cache() / "deb")
    with bench_site("qemu", guest.out) as site:
        ours = Sample(
            "wspilot, until the guest has spoken", tuple(_boot(site) for _ in range(RUNS))
        )
    plain = Sample(
        "a hand-written job script, until it has", tuple(_plain(guest) for _ in range(RUNS))
    )
    show("one real guest through the built-in batch system", [plain, ours], 1.0, "s")
    print(f"  wspilot adds {statistics.median(ours.seconds) - plain.median:.2f} s")


def _boot(site: BenchSite) -> float:
    return site.lease(1)[0]


def _plain(guest: GuestImage) -> float:
    """The same kernel, the same words on the console, no wspilot."""
    with tempfile.TemporaryDirectory(prefix="wspilot-plain-") as place:
        root = Path(place)
        said, script = root / "said", root / "job.sh"
        image = guest.image
        argv = [
            "qemu-system-x86_64",
            "-accel",
            "tcg,tb-size=32",
            "-M",
            "q35",
            "-cpu",
            "max,la57=off",
            "-m",
            "128",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-kernel",
            image["kernel"],
            "-initrd",
            image["initrd"],
            "-append",
            image["append"],
            "-serial",
            f"file:{root / 'console'}",
            "-device",
            "virtio-serial-pci",
            "-chardev",
            f"file,id=a,path={said}",
            "-device",
            "virtserialport,chardev=a,name=org.wspilot.0",
        ]
        script.write_text(f"#!/bin/sh\nexec {shlex.join(map(str, argv))}\n")
        script.chmod(0o755)
        driver = LocalDriver(LocalSettings(grace_s=1.0), root / "lrm")
        request = JobRequest("plain", 1, 1, 300, 120, str(script), str(root / "out"))
        begin = time.perf_counter()
        answer = driver.submitted(run_blocking(driver.submit(request)))
        assert answer.verdict is Verdict.ACCEPTED, answer
        deadline = time.monotonic() + 90
        while b"WSPILOT ready" not in (said.read_bytes() if said.exists() else b""):
            assert time.monotonic() < deadline, (root / "out").read_text()
            time.sleep(0.01)
        taken = time.perf_counter() - begin
        run_blocking(driver.cancel(answer.job_id))
        time.sleep(3.5)  # its grace, and the batch system's own end
        return taken
