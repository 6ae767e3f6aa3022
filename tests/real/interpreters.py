"""The Python interpreters that node code is tried on: every one that answers, 3.9 and newer."""

from __future__ import annotations

import functools
import os
import pwd
import subprocess
from pathlib import Path

_SAY = "import sys; print('%d.%d' % sys.version_info[:2])"


@functools.cache
def interpreters() -> dict[str, str]:
    """Minor version -> path of its interpreter, oldest first."""
    found: dict[str, str] = {}
    # Not Path.home(): the gate gives its run a new HOME.
    root = os.environ.get("PYENV_ROOT") or Path(pwd.getpwuid(os.getuid()).pw_dir, ".pyenv")
    places = [*Path(root).glob("versions/*/bin/python"), *Path("/usr/bin").glob("python3")]
    for path in places:
        try:
            answer = subprocess.run([path, "-c", _SAY], capture_output=True, timeout=20, text=True)
        except (OSError, subprocess.TimeoutExpired):
            continue
        version = answer.stdout.strip()
        if answer.returncode == 0 and tuple(map(int, version.split("."))) >= (3, 9):
            found[version] = str(path)
    return dict(sorted(found.items(), key=lambda item: tuple(map(int, item[0].split(".")))))


def oldest() -> str:
    """The path of the oldest: where node code breaks first."""
    return next(iter(interpreters().values()))
