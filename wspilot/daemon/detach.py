"""`wspilot daemon --detach`: start in the background, and return when it serves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import wspilot
from wspilot.client import call
from wspilot.config import load
from wspilot.errors import NoDaemon, Refused, TimedOut, WspilotError
from wspilot.home import own_dir, read_record
from wspilot.text import clean

START_S = 15.0


def detach(home: Path, config: Path | None, take_over: bool) -> int:
    """The pid of a daemon that answers. Raises WspilotError with the log's last lines."""
    load(config, home)  # a mistake in the settings is told here, not in a log
    own_dir(home)
    own_dir(home / "log")
    path = home / "log" / "daemon.log"
    argv = [sys.executable, "-m", "wspilot", "--home", str(home), "daemon"]
    argv += ["--config", str(config)] if config else []
    argv += ["--take-over"] if take_over else []
    with open(path, "ab", opener=_private) as log:
        start = log.tell()
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environment(),
            start_new_session=True,
        )  # fmt: skip
    return _await(home, child, path, start)


def environment() -> dict[str, str]:
    """For a child with the same code as this one's, wherever this was started from."""
    place = str(Path(wspilot.__file__).resolve().parent.parent)
    paths = [place, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def _await(home: Path, child: subprocess.Popen[bytes], path: Path, start: int) -> int:
    deadline = time.monotonic() + START_S
    while child.poll() is None and time.monotonic() < deadline:
        record = read_record(home)
        if record is not None and record.pid == child.pid:
            try:
                call(home, "ping", {}, timeout_s=2)
                return child.pid
            except (NoDaemon, TimedOut):
                pass
        time.sleep(0.05)
    with path.open("rb") as log:
        log.seek(start)
        said = clean(log.read()[-2000:], 2000, lines=True).splitlines()
    if child.poll() is None:
        child.terminate()
        raise TimedOut(f"the daemon did not serve within {START_S:g} s", f"see {path}")
    text = "; ".join(said[-3:]) or f"exit {child.returncode}"
    if child.returncode == int(Refused.code):
        raise Refused(text.removeprefix("wspilot: "))
    raise WspilotError(f"the daemon ended at once: {text}", f"see {path}")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
