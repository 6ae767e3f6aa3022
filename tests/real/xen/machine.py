"""A real Xen host inside QEMU, driven from outside: boot, run commands in its domain 0, stop.

Invariant: one QEMU process a `XenHost`, which dies with this process (PDEATHSIG) and is gone after
`stop`, also when the boot failed. Its disk is a snapshot: every boot is fresh.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOST_MIB, DOM0_MIB, CPUS = 2048, 1024, 2
BUILD_S, BOOT_S, COMMAND_S = 900, 420, 300
XEN = f"dom0_mem={DOM0_MIB}M,max:{DOM0_MIB}M"  # so that xl's autoballoon is off
_LIBC = ctypes.CDLL(None, use_errno=True)


class XenHostError(Exception):
    """The host itself failed: not what was run on it."""


@dataclass(frozen=True)
class Done:
    """A command that ended in domain 0."""

    code: int
    out: str
    err: str
    seconds: float

    def ok(self) -> str:
        """What it printed; raises XenHostError when it failed."""
        if self.code:
            raise XenHostError(f"exit {self.code}\n{self.out}\n{self.err}")
        return self.out


def cache_dir() -> Path:
    """Where the built host is kept: `$WSPILOT_XEN_CACHE`, else beside other caches."""
    given = os.environ.get("WSPILOT_XEN_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) if given else Path(base) / "wspilot" / "xen"


def build(cache: Path) -> None:
    """Build the host unless the cache has it; about a minute. Raises XenHostError."""
    done = subprocess.run(
        ["bash", str(HERE / "build.sh"), str(cache)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    if done.returncode:
        raise XenHostError(f"the Xen host could not be built:\n{done.stdout[-4000:]}")


class XenHost:
    """`share` is /share in domain 0 (9p, read and write)."""

    def __init__(self, cache: Path, share: Path, xen: str = XEN, memory: int = HOST_MIB) -> None:
        self.share = share
        self.boot_s = 0.0
        self._cache, self._xen, self._memory = cache, xen, memory
        self._work = Path(tempfile.mkdtemp(prefix="wsxen-"))
        self._ctl = self._work / "ctl"
        self._n = 0
        self._qemu: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        """Until domain 0 takes commands: 20 to 90 s. Raises XenHostError, and nothing is left."""
        began = time.monotonic()
        for name in ("in", "out"):
            (self._ctl / name).mkdir(parents=True)
        self.share.mkdir(parents=True, exist_ok=True)
        with open(self._work / "qemu.log", "wb") as log:
            self._qemu = subprocess.Popen(
                self._argv(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": str(self._work)},
                preexec_fn=_die_with_parent,
            )
        try:
            while not (self._ctl / "ready").exists():
                self._check(began, BOOT_S, "is not up")
                time.sleep(0.2)
            if (self._ctl / "ready").read_text().strip() != "0":
                raise XenHostError("xl info failed:\n" + (self._ctl / "xl-info.txt").read_text())
        except BaseException:
            self.stop()
            raise
        self.boot_s = time.monotonic() - began

    def _argv(self) -> list[str]:
        # multiboot: modules are split at commas
        kernel = f"{self._cache / 'dom0-vmlinux'} console=hvc0 root=/dev/vda rw quiet loglevel=4"
        kernel += " mitigations=off net.ifnames=0 nokaslr"
        hypervisor = "console=com1 com1=115200,8n1 loglvl=warning guest_loglvl=warning"
        hypervisor += f" spec-ctrl=no xpti=no smt=1 {self._xen}"
        argv = ["qemu-system-x86_64", "-name", "wspilot-xen-host", "-M", "q35"]
        argv += ["-accel", "tcg,thread=multi,tb-size=256"]
        argv += ["-cpu", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt"]
        argv += ["-m", str(self._memory), "-smp", str(CPUS), "-no-reboot", "-nodefaults"]
        argv += ["-display", "none", "-monitor", "none", "-device", "virtio-rng-pci"]
        argv += ["-kernel", str(self._cache / "xen.elf"), "-append", hypervisor]
        argv += ["-initrd", f"{kernel},{self._cache / 'dom0-initrd'}"]
        disk = f"file={self._cache / 'dom0.ext4'},format=raw,if=none,id=d0,snapshot=on,cache=unsafe"
        argv += ["-drive", disk, "-device", "virtio-blk-pci,drive=d0"]
        for tag, path in (("ctl", self._ctl), ("share", self.share)):
            argv += ["-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap"]
            argv += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
        return [*argv, "-serial", f"file:{self._work / 'console.log'}"]

    def start(self, command: str, user: str = "root") -> str:
        """Begin a command in domain 0; its ticket for `result`."""
        self._n += 1
        ticket = f"{self._n:05d}"
        if user != "root":
            quoted = command.replace("'", "'\\''")
            command = f"exec setpriv --reuid={user} --regid={user} --init-groups env"
            command += f" HOME=/home/{user} USER={user} LOGNAME={user} bash -c '{quoted}'"
        made = self._ctl / "in" / f"{ticket}.tmp"
        made.write_text(command + "\n")
        made.rename(made.with_suffix(".cmd"))
        return ticket

    def is_done(self, ticket: str) -> bool:
        """Has it ended?"""
        return (self._ctl / "out" / f"{ticket}.rc").exists()

    def result(self, ticket: str, limit_s: float = COMMAND_S) -> Done:
        """Wait for it. Raises XenHostError when it does not end in time."""
        began = time.monotonic()
        out = self._ctl / "out"
        while not self.is_done(ticket):
            self._check(began, limit_s, f"command {ticket} is not done")
            time.sleep(0.05)
        seconds = time.monotonic() - began
        texts = [
            (out / f"{ticket}.{end}").read_text(errors="replace") for end in ("stdout", "stderr")
        ]
        return Done(int((out / f"{ticket}.rc").read_text()), texts[0], texts[1], seconds)

    def run(self, command: str, user: str = "root", limit_s: float = COMMAND_S) -> Done:
        """A command in domain 0, by bash, to its end."""
        return self.result(self.start(command, user), limit_s)

    def until(self, command: str, limit_s: float, user: str = "root") -> str:
        """Run it again and again until it succeeds (in domain 0, so at one command's price); what
        it printed. Raises XenHostError when it never does."""
        loop = (
            f"end=$((SECONDS + {int(limit_s)})); while [ $SECONDS -lt $end ]; do out=$({command})"
        )
        done = self.run(
            f'{loop} && {{ echo "$out"; exit 0; }}; sleep 0.2; done; echo "$out"; exit 1',
            user,
            limit_s + COMMAND_S,
        )
        return done.ok()

    def open_to_all(self) -> Path:
        """Where commands are put: from now on by other users of this machine, too."""
        self._work.chmod(0o755)
        for name in ("", "in", "out"):
            (self._ctl / name).chmod(0o777)
        return self._ctl

    def console(self) -> str:
        """What domain 0's kernel and Xen said last."""
        path = self._work / "console.log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    def _check(self, began: float, limit_s: float, what: str) -> None:
        if self._qemu is None or self._qemu.poll() is not None:
            raise XenHostError(f"the Xen host has ended: {what}\n{self.console()}{self._log()}")
        if time.monotonic() - began > limit_s:
            raise XenHostError(f"the Xen host: {what} after {limit_s:g} s\n{self.console()}")

    def _log(self) -> str:
        path = self._work / "qemu.log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    def stop(self) -> None:
        """Gone, and its files with it."""
        if self._qemu is not None and self._qemu.poll() is None:
            self._qemu.kill()  # its disk is a snapshot: there is nothing to save
            self._qemu.wait(30)
        shutil.rmtree(self._work, ignore_errors=True)


@contextlib.contextmanager
def xen_host(share: Path, xen: str = XEN) -> Iterator[XenHost]:
    """A booted host, built if need be."""
    cache = cache_dir()
    build(cache)
    host = XenHost(cache, share, xen)
    host.boot()
    try:
        yield host
    finally:
        host.stop()


def _die_with_parent() -> None:
    _LIBC.prctl(1, int(signal.SIGKILL), 0, 0, 0)
    os.nice(5)
