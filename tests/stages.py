"""The stages of `make test` as data: what runs, how long it may take, and what it needs.

Invariant: every test file belongs to exactly one stage, the first whose patterns match its path;
a file that none matches makes the run fail, so that no test is dropped in silence.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Need:
    """A program that a stage cannot do without, and the Debian packages that bring it."""

    program: str
    packages: str

    def is_met(self) -> bool:
        # Debian keeps daemons in sbin, which an ordinary user's PATH leaves out.
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
        return shutil.which(self.program, path=path) is not None


@dataclass(frozen=True)
class Stage:
    """One line of the table that `make test` prints."""

    name: str
    budget: float
    """Seconds it should take; it is stopped at 1.5 times that."""
    files: tuple[str, ...] = ()
    """Patterns of the test files; `*` also matches `/`."""
    commands: tuple[tuple[str, ...], ...] = ()
    """Instead of tests: commands, each of which counts as one test."""
    needs: tuple[Need, ...] = ()
    root: bool = False
    """True when it starts daemons that run things as other users."""
    real: bool = False
    """True when a skipped test means a missing part, which in CI is a failure."""
    only_with: str = ""
    """A path without which there is nothing to run yet."""
    only_in_ci: bool = False
    """True when `make test` leaves it to CI (or to whoever names it)."""
    alone: bool = True
    """False when it may run beside others: it measures no time and uses at most one core."""


_BIN = Path(sys.executable).parent
SLURM = "slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge slurm-wlm-torque"

STAGES = (
    # The longest of those that share the machine come first.
    Stage("looks", budget=480, files=("tests/tui/test_snapshots.py",), alone=False),
    Stage(
        "tui",
        budget=900,
        files=("tests/tui/*", "tests/unit/tui/*", "tests/*/test_tui*.py"),
        needs=(Need("tmux", "tmux"), Need("chromium", "chromium")),
        alone=False,  # for the most part it waits for screens to come to rest
    ),
    Stage(
        "debian",
        budget=300,
        files=("tests/real/test_minimal_debian.py",),
        needs=(Need("mmdebstrap", "mmdebstrap"), Need("git", "git")),
        root=True,
        real=True,
        alone=False,
    ),
    Stage(
        "lint",
        budget=120,
        commands=(
            (str(_BIN / "ruff"), "check", "."),
            (str(_BIN / "ruff"), "format", "--check", "."),
            (str(_BIN / "mypy"), "--strict"),
        ),
        alone=False,
    ),
    Stage("unit", budget=420, files=("tests/unit/*", "tests/bench/test_*.py"), alone=False),
    Stage("sim", budget=480, files=("tests/sim/*",), alone=False),
    Stage(
        "slurm",
        budget=840,
        files=("tests/real/test_slurm*.py", "tests/real/test_torque*.py"),
        needs=(
            *(Need(p, SLURM) for p in ("slurmctld", "slurmd", "munged", "srun", "qsub")),
            Need("qemu-system-x86_64", "qemu-system-x86 qemu-utils cpio"),
        ),
        root=True,
        real=True,
    ),
    Stage(
        "leases",
        budget=420,
        files=("tests/real/test_rounds.py", "tests/real/test_ensembles.py"),
        needs=(Need("setsid", "util-linux"),),
        real=True,
    ),
    Stage(
        "net",
        budget=600,
        files=("tests/real/test_net_*.py", "tests/real/test_ctx_*.py"),
        needs=(
            Need("qemu-system-x86_64", "qemu-system-x86 qemu-utils cpio"),
            Need("ip", "iproute2"),
            Need("nft", "nftables"),
            Need("ebtables-nft", "iptables"),
            Need("dnsmasq", "dnsmasq-base"),
            Need("sudo", "sudo"),
            Need("setpriv", "util-linux"),
            Need("ssh-keygen", "openssh-client"),
        ),
        root=True,
        real=True,
    ),
    Stage(
        "xen",
        budget=1200,
        files=("tests/real/xen/test_*.py",),
        needs=(
            Need("qemu-system-x86_64", "qemu-system-x86"),
            Need("mmdebstrap", "mmdebstrap"),
            Need("mke2fs", "e2fsprogs"),
            Need("cpio", "cpio"),
            Need("depmod", "kmod"),
        ),
        root=True,
        real=True,
    ),
    Stage(
        "qemu",
        budget=1200,
        files=("tests/real/*",),
        needs=(
            Need("qemu-system-x86_64", "qemu-system-x86"),
            Need("qemu-img", "qemu-utils"),
            Need("cpio", "cpio"),
            Need("mke2fs", "e2fsprogs"),
            Need("bindfs", "bindfs fuse3"),
            Need("sshd", "openssh-server"),
            Need("tmux", "tmux"),
        ),
        real=True,
    ),
    Stage(
        "bench",
        budget=600,
        commands=((sys.executable, "-m", "tests.bench"),),
        only_with="tests/bench/__main__.py",
        only_in_ci=True,
    ),
)


def test_files(root: Path) -> list[str]:
    """Paths of all test files under `root`/tests, relative to `root`, in order."""
    found = (root / "tests").rglob("test_*.py")
    return sorted(path.relative_to(root).as_posix() for path in found)


def assign(stages: Iterable[Stage], paths: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Files by the name of their stage (the first that matches), and the files of no stage."""
    stages = tuple(stages)
    by_stage: dict[str, list[str]] = {stage.name: [] for stage in stages}
    homeless = []
    for path in paths:
        for stage in stages:
            if any(fnmatch.fnmatchcase(path, pattern) for pattern in stage.files):
                by_stage[stage.name].append(path)
                break
        else:
            homeless.append(path)
    return by_stage, homeless


def missing(stage: Stage) -> list[str]:
    """What this machine lacks for `stage`, each with how to get it; empty when it can run."""
    by_packages: dict[str, list[str]] = {}
    for need in stage.needs:
        if not need.is_met():
            by_packages.setdefault(need.packages, []).append(need.program)
    lacks = [
        f"{', '.join(programs)} (apt-get install --no-install-recommends {packages})"
        for packages, programs in by_packages.items()
    ]
    if stage.root and os.geteuid() != 0:
        lacks.append("the right to be root (sudo make test)")
    return lacks
