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
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.bench.measure import Sample, sample, show
from tests.bench.site import LIMIT_S, bench_site
from tests.bench.spent import Spent, spent
from wspilot.daemon.lrm.base import JobRequest, Verdict
from wspilot.daemon.lrm.local import LocalDriver
from wspilot.daemon.lrm.runner import run_blocking
from wspilot.daemon.lrm.site import LocalSettings
from wspilot.guest import GuestImage, build_guest, default_cache
from wspilot.node.context import make_seed
from wspilot.nodecode import node_zipapp

RUNS, EIGHT = 3, 8


def run() -> None:
    """Print the tables."""
    _sim()
    _real()
    _eight()


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
    """The same guest both times (kernel, NIC, what it is told on its seed disk), by turns."""
    guest = build_guest(default_cache() / "guest", default_cache() / "deb")
    ours, used, plain = [], [], []
    with bench_site("qemu", guest.out, nodes=1) as site:
        site.lease(1)  # asks the node whether KVM works there, once a boot
        for _ in range(RUNS):
            seconds, _, ws = site.lease(1)
            ours.append(seconds)
            used.append(site.used)
            plain.append(_plain(guest, ws["vms"][0]))
    rows = [
        Sample("a hand-written job script, until it has", tuple(one for one, _ in plain)),
        Sample("wspilot, until the guest has spoken", tuple(ours)),
    ]
    show("one real guest through the built-in batch system", rows, 1.0, "s")
    print(f"  wspilot adds {rows[1].median - rows[0].median:.2f} s")
    _processors([cpu for _, cpu in plain], used)


def _processors(plain: Sequence[float], used: Sequence[Spent]) -> None:
    guests, ours = (statistics.median(each) for each in zip(*((u.guests, u.ours) for u in used)))
    hand = statistics.median(plain)
    print(f"  processor seconds until then: by hand {hand:.2f} of QEMU; wspilot {guests:.2f} of "
          f"QEMU and {ours:.2f} of all else, ratio {(guests + ours) / hand:.2f}")  # fmt: skip


def _plain(guest: GuestImage, vm: Mapping[str, Any]) -> tuple[float, float]:
    """Seconds by the clock, and of QEMU on the processors."""
    with tempfile.TemporaryDirectory(prefix="wspilot-plain-") as place:
        root = Path(place)
        said, script = root / "said", root / "job.sh"
        argv = [*_qemu(guest, root, said), *_told(root, vm, _members([vm]), 0)]
        script.write_text(f"#!/bin/sh\nexec {shlex.join(argv)}\n")
        script.chmod(0o755)
        driver = LocalDriver(LocalSettings(grace_s=1.0), root / "lrm")
        request = JobRequest("plain", 1, 1, 300, 120, str(script), str(root / "out"))
        begin = time.perf_counter()
        answer = driver.submitted(run_blocking(driver.submit(request)))
        assert answer.verdict is Verdict.ACCEPTED, answer
        deadline = time.monotonic() + 90
        while b"WSPILOT ready" not in _read(said):
            assert time.monotonic() < deadline, (root / "out").read_text()
            time.sleep(0.01)
        taken = time.perf_counter() - begin, spent(place).guests
        run_blocking(driver.cancel(answer.job_id))
        time.sleep(3.5)  # its grace, and the batch system's own end
        return taken


def _qemu(guest: GuestImage, root: Path, said: Path) -> list[str]:
    """A guest as one would start it by hand; what it says comes to `said`."""
    image = guest.image
    words = (
        "qemu-system-x86_64 -accel tcg,tb-size=32 -M q35,usb=off,vmport=off -cpu max,la57=off"
        " -m 128 -nodefaults"
        f" -no-user-config -display none -kernel {image['kernel']} -initrd {image['initrd']}"
        f" -serial file:{root / 'console'} -device virtio-serial-pci"
        f" -chardev file,id=a,path={said} -device virtserialport,chardev=a,name=org.wspilot.0"
    )
    return [*words.split(), "-append", str(image["append"])]


def _eight() -> None:
    """One workspace, packed on a node, against the same guests started at once (issue 5: 1.15 x).

    One run; both tell their guests the same, and give them a NIC. Once a boot a node is asked
    whether KVM works there, which takes seconds where it does not: a lease before has done that.
    """
    guest = build_guest(default_cache() / "guest", default_cache() / "deb")
    group = {"name": "g", "type": "small", "count": EIGHT, "placement": "pack"}
    asked = {"workspace": {"name": "eight", "duration": "10m"}, "group": [group]}
    with bench_site("qemu", guest.out, '[budget]\nboot = "5m"', nodes=1) as site:
        site.lease(1)
        ours, _, ws = site.deploy(ensemble=asked)
    plain, cpu = _at_once(guest, ws["vms"])
    rows = [
        Sample(f"{EIGHT} QEMUs started by hand, until all have spoken", (plain,)),
        Sample(f"a workspace of {EIGHT}, until they have", (ours,)),
    ]
    show(f"{EIGHT} real guests (TCG), one run", rows, 1.0, "s")
    _processors([cpu], [site.used])


def _at_once(guest: GuestImage, vms: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Seconds until every guest has said that it is up, by the clock and of the processors."""
    members = _members(vms)
    with tempfile.TemporaryDirectory(prefix="wspilot-plain-") as place, ExitStack() as stack:
        begin = time.perf_counter()
        said = []
        for at, vm in enumerate(vms):
            root = Path(place) / str(vm["id"])
            root.mkdir()
            said.append(root / "said")
            argv = [*_qemu(guest, root, said[-1]), *_told(root, vm, members, at)]
            child = subprocess.Popen(argv)
            stack.callback(child.wait)
            stack.callback(child.kill)
        deadline = time.monotonic() + LIMIT_S
        while not all(b"WSPILOT ready" in _read(one) for one in said):
            assert time.monotonic() < deadline, [_read(one) for one in said]
            time.sleep(0.02)
        return time.perf_counter() - begin, spent(place).guests


def _members(vms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The picture, as a workspace's members are told it."""
    return [
        {"host": f"g-{n}", "networks": ["private"], "ips": [vm["nics"][0]["ip"]]}
        for n, vm in enumerate(vms, 1)
    ]


def _told(
    root: Path, vm: Mapping[str, Any], members: Sequence[Mapping[str, Any]], at: int
) -> list[str]:
    """QEMU's words for the seed disk of member `at`, which is made here, and for its NIC."""
    data = {"id": vm["id"], "host": members[at]["host"], "nics": vm["nics"]}
    make_seed(root / "seed", data, {"members": members})
    words = (
        f"-drive if=none,id=s,read-only=on,format=raw,file={root / 'seed'}"
        " -device virtio-blk-pci,drive=s,serial=seed -netdev user,id=n,restrict=on"
        f" -device virtio-net-pci,netdev=n,romfile=,mac={vm['nics'][0]['mac']}"
    )
    return words.split()


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
