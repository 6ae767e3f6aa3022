"""The demo: it shows a lease, and whatever ends it, nothing of it is left."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import wspilot
from wspilot.demo import site
from wspilot.demo.interrupts import Interrupted, Interrupts
from wspilot.errors import UsageError, WspilotError

ROOT = Path(wspilot.__file__).parent.parent
LIMIT_S = 60.0


def words(*more: str) -> list[str]:
    return [sys.executable, "-m", "wspilot", "demo", "--sim", "--no-tui", *more]


def traces(place: Path) -> list[str]:
    """Processes that name the place, and what lies in it."""
    found = [str(path) for path in place.iterdir()]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            argv = path.read_bytes()
        except OSError:
            continue
        if os.fsencode(place) in argv:
            found.append(f"{path.parent.name}: {argv!r}")
    return found


@pytest.fixture
def place() -> Iterator[Path]:
    """Where a demo's directory goes: a short path, since sockets may lie below it."""
    with tempfile.TemporaryDirectory(prefix="wsd-") as name:
        (Path(name) / "t").mkdir()
        (Path(name) / "run").mkdir(mode=0o700)
        yield Path(name) / "t"


def environment(place: Path) -> dict[str, str]:
    run = str(place.parent / "run")
    return {**os.environ, "TMPDIR": str(place), "XDG_RUNTIME_DIR": run, "PYTHONPATH": str(ROOT)}


@pytest.mark.slow
def test_a_demo_from_first_to_last(place: Path) -> None:
    done = subprocess.run(
        words("--json"), env=environment(place), capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, done.stderr
    ws = json.loads(done.stdout)["workspace"]
    assert ws["state"] == "active" and len(ws["vms"]) == 4
    for vm in ws["vms"]:
        spans = {span["name"]: span["seconds"] for span in vm["spans"]}
        assert vm["state"] == "running" and vm["node"] and vm["nics"][0]["ip"]
        assert spans["boot"] >= 1.9 and {"invoke", "create"} <= set(spans)
    assert "guests: simulated (sim), as asked for" in done.stderr
    assert done.stderr.splitlines()[-1] == "the demo is over: nothing of it is left"
    assert traces(place) == []


MOMENTS: dict[str, tuple[str, int]] = {
    "before the daemon answers": ("guests:", signal.SIGINT),
    "while the lease is asked for": ("leasing", signal.SIGTERM),
    "while it is queued": (" pending ", signal.SIGINT),
    "while guests boot": (" booting", signal.SIGHUP),
    "while it ends": ("ending:", signal.SIGINT),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupt_at_any_time_leaves_nothing(place: Path, moment: str) -> None:
    mark, number = MOMENTS[moment]
    with running(words(), place) as child:
        said = _read_until(child, mark)
        if pid := said.partition("daemon: pid ")[2].partition(",")[0]:
            assert os.getsid(int(pid)) == int(pid)  # or Ctrl-C would end it before the lease
        os.killpg(child.pid, number)  # a terminal sends it to the whole foreground group
        time.sleep(0.2)
        os.killpg(child.pid, number)  # and people press it twice
        rest = _rest(child)
    assert "Traceback" not in said + rest
    assert "nothing of it is left" in rest
    assert child.returncode == (0 if mark == "ending:" else 128 + number)
    assert traces(place) == []


@pytest.mark.slow
def test_a_lease_that_cannot_be_is_told_and_leaves_nothing(place: Path) -> None:
    file = place.parent / "big.toml"
    file.write_text(
        '[workspace]\nname = "big"\nduration = "1h"\n'
        '[[group]]\nname = "a"\ncount = 40\ntype = "large"\n'
    )
    done = subprocess.run(
        words(str(file)), env=environment(place), capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode in (2, 5), done.stderr
    assert "wspilot: " in done.stderr and traces(place) == []


@pytest.mark.slow
def test_a_daemon_that_dies_under_the_demo(place: Path) -> None:
    with running(words(), place) as child:
        said = _read_until(child, " booting")
        pid = int(said.partition("daemon: pid ")[2].partition(",")[0])
        os.kill(pid, signal.SIGKILL)
        rest = _rest(child)
    assert child.returncode == 3 and "Traceback" not in rest
    assert traces(place) == []


@contextmanager
def running(argv: list[str], place: Path) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        argv, env=environment(place), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait(5)


def _read_until(child: subprocess.Popen[str], mark: str) -> str:
    assert child.stderr is not None
    said = ""
    for line in child.stderr:
        said += line
        if mark in line:
            return said
    raise AssertionError(f"it never said {mark!r}: {said}")


@pytest.mark.slow
@pytest.mark.parametrize(("end", "code"), [("q", 0), (signal.SIGTERM, 143)])
def test_on_a_terminal_it_shows_the_interface(place: Path, end: Any, code: int) -> None:
    terminal = Terminal([*words()[:-1]], environment(place))
    try:
        terminal.read_until(b"\x1b[?1049h")
        terminal.read_until(b"worker/2")
        if isinstance(end, str):
            os.write(terminal.fd, end.encode())
        else:
            os.kill(terminal.pid, end)
        rest = terminal.read_until(b"nothing of it is left")
        assert b"\x1b[?1049l" in rest and b"\x1b[?25h" in rest and b"Traceback" not in rest
        assert terminal.wait() == code
    finally:
        terminal.close()
    assert traces(place) == []


@pytest.mark.slow
def test_a_terminal_that_is_closed_leaves_nothing(place: Path) -> None:
    terminal = Terminal([*words()[:-1]], environment(place))
    try:
        terminal.read_until(b"worker/2")
        os.close(terminal.fd)  # SIGHUP, and every write fails from now on
        terminal.fd = os.open(os.devnull, os.O_RDONLY)
        assert terminal.wait(30) in (129, -signal.SIGHUP, 1)
    finally:
        terminal.close()
    assert traces(place) == []


class Terminal:
    """A command on a pseudo-terminal of 80 columns."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(argv[0], argv, {**env, "TERM": "xterm-256color"})
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._code: int | None = None

    def read_until(self, mark: bytes) -> bytes:
        said, end = b"", time.monotonic() + LIMIT_S
        while mark not in said:
            assert time.monotonic() < end, f"never {mark!r}: {said[-3000:]!r}"
            if select.select([self.fd], [], [], 0.5)[0]:
                said += os.read(self.fd, 65536)
        return said

    def wait(self, limit_s: float = 10.0) -> int:
        end = time.monotonic() + limit_s
        while self._code is None and time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
            time.sleep(0.02)
        assert self._code is not None, "it did not end"
        return self._code

    def close(self) -> None:
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


def _rest(child: subprocess.Popen[str]) -> str:
    """What it says to its end. Not communicate(): that forgets what was read ahead."""
    assert child.stderr is not None
    timer = threading.Timer(LIMIT_S, child.kill)
    timer.start()
    try:
        return child.stderr.read()
    finally:
        timer.cancel()
        child.wait(5)


# -- which guests


def test_without_qemu_it_says_so_and_simulates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    guests = site.choose("", lambda _: None)
    assert guests.vmm == "sim"
    assert "not installed" in guests.words and "apt install" in guests.words
    with pytest.raises(WspilotError, match="not installed"):
        site.choose("qemu", lambda _: None)


def test_without_the_guests_packages_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from wspilot import guest

    def fails(*_: Any) -> Any:
        raise WspilotError("apt has no lists", "apt update")

    monkeypatch.setattr(guest, "build_guest", fails)
    monkeypatch.setattr(site.shutil, "which", lambda _: "/usr/bin/qemu")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "apt has no lists. apt update" in site.choose("", lambda _: None).words


@pytest.mark.parametrize("vmm", ["sim", "qemu"])
def test_its_site_is_valid_and_sees_the_guest(tmp_path: Path, vmm: str) -> None:
    from wspilot.config import load
    from wspilot.images import load_images

    folder = tmp_path / "guest"
    folder.mkdir()
    for name in ("vmlinuz", "initrd"):
        (folder / name).touch()
    (folder / "image.json").write_text('{"kind": "kernel", "ready": "agent"}')
    (tmp_path / "h").mkdir()
    guests = site.Guests(vmm, "", folder if vmm == "qemu" else None)
    made = load(guests.write(tmp_path / "h"), tmp_path / "h")
    images = load_images(made.images_dir, made)
    assert set(images) == {"default", "small"} and not any(one.fault for one in images.values())


def test_examples_are_found_or_missed_in_words() -> None:
    assert site.example("osg-cluster.toml").is_file()
    with pytest.raises(UsageError, match="nonesuch"):
        site.example("nonesuch.toml")


# -- signals


def test_a_signal_waits_for_the_end_of_a_hold() -> None:
    before = signal.getsignal(signal.SIGTERM)
    steps = []
    with pytest.raises(Interrupted) as caught, Interrupts() as interrupts:
        with interrupts.hold():
            os.kill(os.getpid(), signal.SIGTERM)
            steps.append("held")
        steps.append("never")
    assert steps == ["held"] and caught.value.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_signals_do_not_cut_the_clean_up_short() -> None:
    with Interrupts() as interrupts:
        interrupts.ignore()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)


def test_a_signal_outside_ends_a_wait() -> None:
    def late(call: Callable[[], None]) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGHUP))
        call()

    start = time.monotonic()
    with pytest.raises(Interrupted), Interrupts():
        late(lambda: time.sleep(10))
    assert time.monotonic() - start < 5
