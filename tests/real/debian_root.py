"""A bare Debian to try the README in: mmdebstrap's minimum, plus what README's line zero names.

Each command runs in mount and process namespaces of its own, so that its mounts and whatever it
leaves running are gone when it ends, even by kill -9. How apt and pip reach their archives is
taken from this machine's own settings, whatever they are. Needs root.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlparse

REPO = Path(__file__).resolve().parents[2]
SUITE = "bookworm"
_UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation=private")
_CLONE = ("git", "-c", "safe.directory=*", "clone", "-q", "--bare", "--no-hardlinks")
_PASSED_ON = re.compile(r"(https?|no|all|ftp)_proxy", re.IGNORECASE)


class DebianError(Exception):
    """The root could not be made; the text holds what mmdebstrap said."""


def readme_packages(readme: str) -> list[str]:
    """The packages of the first apt-get install line of the README: its line zero."""
    found = re.search(r"apt-get install((?: +[\w.+-]+)+)", readme)
    if found is None:
        raise DebianError("README.md has no line with apt-get install")
    return [word for word in found[1].split() if not word.startswith("-")]


@dataclass
class DebianRoot:
    """A directory with a small Debian in it; `remove` takes it away."""

    path: Path
    binds: list[Path] = field(default_factory=list)
    """Directories of this machine that pip's settings name; mounted read-only, same place."""

    def run(
        self, script: str, *, user: str = "root", timeout: float = 240
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell script in there, in the user's home; stdout and stderr come as one."""
        home = "/root" if user == "root" else f"/home/{user}"
        env = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
        env |= {"HOME": home, "USER": user, "LOGNAME": user, "TERM": "dumb", "LC_ALL": "C.UTF-8"}
        env["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
        inner = ["env", "-i", *(f"{name}={value}" for name, value in env.items())]
        inner += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        inner += ["sh", "-c", f"cd && {script}"]
        outer = [*self._mounts(), f"exec chroot {shlex.quote(str(self.path))} {shlex.join(inner)}"]
        return subprocess.run(
            [*_UNSHARE, "sh", "-ec", "\n".join(outer)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )

    def _mounts(self) -> Iterator[str]:
        root = shlex.quote(str(self.path))
        yield f"mount -t proc proc {root}/proc"
        yield f"mkdir -p {root}/dev/shm && mount -t tmpfs -o mode=1777 shm {root}/dev/shm"
        for place in self.binds:
            target = shlex.quote(f"{self.path}{place}")
            yield f"mkdir -p {target} && mount --bind -o ro {shlex.quote(str(place))} {target}"

    def add_user(self, name: str) -> None:
        """An ordinary user with a home."""
        done = self.run(f"useradd -m -s /bin/bash {name}", timeout=20)
        if done.returncode:
            raise DebianError(done.stdout)

    def clone_source(self, user: str) -> str:
        """Put a repository with this one's HEAD into the user's home; its path inside."""
        home = "root" if user == "root" else f"home/{user}"
        target = self.path / home / "origin.git"
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run(
            [*_CLONE, str(REPO), str(target)],
            check=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        done = self.run(f"chown -R {user}: /{home}/origin.git", timeout=20)
        if done.returncode:
            raise DebianError(done.stdout)
        return f"/{home}/origin.git"

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def make_debian_root(packages: list[str], timeout: float = 240) -> DebianRoot:
    """mmdebstrap's minimum and `packages`: about half a minute. Raises DebianError."""
    top = Path(tempfile.mkdtemp(prefix="wsdebian-"))
    root = DebianRoot(top)
    try:
        top.chmod(0o755)
        with tempfile.TemporaryDirectory() as scratch:
            argv = _mmdebstrap(top, packages, Path(scratch))
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
        if done.returncode:
            raise DebianError(f"{shlex.join(argv)}\n{done.stdout[-3000:]}")
        for name in ("resolv.conf", "hosts"):
            if Path("/etc", name).exists():
                shutil.copyfile(Path("/etc", name), top / "etc" / name)
        root.binds = _pass_pip_settings_on(top)
    except BaseException:
        root.remove()
        raise
    return root


def _mmdebstrap(target: Path, packages: list[str], scratch: Path) -> list[str]:
    options = scratch / "apt.conf"
    options.write_text(_apt_settings())
    return [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        "--skip=check/empty",
        f"--aptopt={options}",
        "--aptopt=APT::Install-Recommends false",
        f"--include={','.join(packages)}",
        SUITE,
        str(target),
        *_apt_sources(),
    ]


def _apt_settings() -> str:
    """What this machine says about reaching archives (proxies, checks of dates)."""
    told = subprocess.run(
        ["apt-config", "dump"], capture_output=True, text=True, check=True, timeout=20
    ).stdout
    wanted = re.compile(r"Acquire::(Check-|https?|Retries)")
    return "".join(f"{line}\n" for line in told.splitlines() if wanted.match(line))


def _apt_sources() -> list[str]:
    """This machine's own archives when they have the suite; else mmdebstrap's default."""
    places = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    found = []
    for place in places:
        if place.suffix in (".list", ".sources") and place.is_file():
            words = re.findall(r"^\s*(?:deb |Suites:)(.*)$", place.read_text(), re.MULTILINE)
            if any(SUITE in line.split() for line in words):
                found.append(str(place))
    return found


def _pass_pip_settings_on(root: Path) -> list[Path]:
    """Write pip's settings of this machine into the root; the directories that they name."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    settings = {}
    for line in told.splitlines():
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = str(ast.literal_eval(value))
    lines, binds = ["[global]"], []
    for name, value in settings.items():
        lines.append(f"{name} = " + "\n    ".join(value.split()))
        binds += [path for word in value.split() for path in _local_directories(word, root)]
    (root / "etc/pip.conf").write_text("\n".join(lines) + "\n")
    return sorted(set(binds))


def _local_directories(word: str, root: Path) -> list[Path]:
    """The directory that a setting's word names (file:// or plain); a file is copied instead."""
    path = Path(unquote(urlparse(word).path) if word.startswith("file:") else word)
    if not path.is_absolute() or not path.exists():
        return []
    if path.is_file():
        target = root / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copyfile(path, target)
        return []
    # An index keeps its pages in simple/ and the files that they point to beside it.
    return [path.parent if path.name == "simple" else path]
