"""wspilot as an ordinary user would have it: a venv of the system's Python, readable by all.

The checkout and its .venv may lie under a home with mode 0700, and pyenv's Python with them; what
runs as another user therefore gets a real wheel in a venv of /usr/bin/python3, outside of both.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
SYSTEM_PYTHON = Path("/usr/bin/python3")


@dataclass(frozen=True)
class UserInstall:
    """Where it is; `remove` takes it away."""

    root: Path

    @property
    def wspilot(self) -> Path:
        """The command."""
        return self.root / "venv/bin/wspilot"

    @property
    def python(self) -> Path:
        return self.root / "venv/bin/python"

    @property
    def examples(self) -> Path:
        """A copy of examples/ that everybody can read."""
        return self.root / "source/examples"

    def remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


def make_user_install() -> UserInstall:
    """Build the wheel from a copy and install it: 10 to 30 s, most of it pip's downloads.

    Raises subprocess.CalledProcessError, with pip's words on stderr.
    """
    install = UserInstall(Path(tempfile.mkdtemp(prefix="wsuser-", dir="/tmp")))
    try:
        install.root.chmod(0o755)
        source = install.root / "source"
        copy_source(source)
        (install.root / "tmp").mkdir()
        _run([str(SYSTEM_PYTHON), "-m", "venv", "--without-pip", str(install.root / "venv")])
        # The venv that runs the tests lends its pip: making one costs 3 s.
        pip = [sys.executable, "-m", "pip", "--python", str(install.python)]
        quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
        _run([*pip, "install", *quiet, str(source)], TMPDIR=str(install.root / "tmp"))
        _open_to_all(install.root)
    except BaseException:
        install.remove()
        raise
    return install


def copy_source(target: Path) -> None:
    """What git tracks, or would if it were added, as it is in the work tree now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPO,
        capture_output=True,
        check=True,
        timeout=20,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (REPO / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPO / name, target / name)


def _open_to_all(root: Path) -> None:
    for folder, _, names in os.walk(root):
        Path(folder).chmod(0o755)
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o444)


def _run(argv: list[str], **env: str) -> None:
    # A umask of 077 would shut the user out of what pip writes.
    subprocess.run(
        argv,
        check=True,
        timeout=180,
        stdin=subprocess.DEVNULL,
        umask=0o022,
        env={**os.environ, **env},
    )
