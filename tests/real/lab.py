"""wspilot on this machine alone: its own home, LRM `local`, real guests; all of it ends again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wspilot.guest import GuestImage

SITE = """\
[site]
lrm = "local"
vmm = "qemu"
adapter = "none"
allow_root = true
images = "{images}"
[lrm.local]
{lrm}
[budget]
boot = "{boot}"
[[type]]
name = "small"
cpus = 1
memory = "128MiB"
disk = "1GiB"
[[type]]
name = "medium"
cpus = 1
memory = "128MiB"
disk = "1GiB"
[network.private]
{way}
cidr = "10.77.0.0/24"
[network.public]
{public}
cidr = "10.78.0.0/24"
{more}"""
ENDS_S = 20.0


class Lab:
    """A daemon and its command line; `close` fails when anything of it is left.

    `more` is added to the site's TOML; a `boot` is how long a guest may take to say that it is up.
    """

    def __init__(
        self,
        place: Path,
        guest: GuestImage,
        prefix: Sequence[str] = (),
        way: str = 'way = "user"',
        boot: str = "4m",
        more: str = "",
        public: str = 'way = "user"',
        lrm: str = "nodes = 4",
    ) -> None:
        self.prefix = prefix  # how a command is run where the nodes are
        self.home = place / "home"
        self.home.mkdir(mode=0o700)
        self.images = images = place / "images"
        image = images / "default"
        image.mkdir(parents=True)
        for name in ("vmlinuz", "initrd", "image.json"):
            shutil.copy(guest.out / name, image / name)
        site = place / "site.toml"
        words = {"way": way, "public": public, "lrm": lrm, "boot": boot, "more": more}
        site.write_text(SITE.format(images=images, **words))
        self._site = site
        self.start()

    def start(self) -> None:
        """Start the daemon; again, after somebody has killed it."""
        self.pid = self.cli("daemon", "--config", str(self._site), "--detach")["pid"]

    def run(self, *words: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """One invocation, whatever its exit code."""
        env = {**os.environ, "WSPILOT_HOME": str(self.home), "XDG_RUNTIME_DIR": ""}
        argv = [*self.prefix, sys.executable, "-m", "wspilot", *words]
        return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=timeout)

    def cli(self, *words: str, timeout: float = 300) -> dict[str, Any]:
        """One invocation that must succeed; its document."""
        done = self.run(*words, "--json", timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def add_patched(self, guest: GuestImage) -> None:
        """The guest built with a disk, as image `patched`: the context is written onto it."""
        assert guest.disk is not None
        files = ("--kernel", str(guest.disk["kernel"]), "--initrd", str(guest.disk["initrd"]))
        more = ("--context", "patch", "--append", str(guest.disk["append"]))
        self.cli("images", "add", "patched", str(guest.disk["disk"]), *files, *more)

    def show(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.cli("show", name)["workspace"]
        return found

    def until(self, name: str, what: Any, limit_s: float = 240) -> dict[str, Any]:
        """The workspace once `what` holds of it."""
        end = time.monotonic() + limit_s
        while not what(ws := self.show(name)):
            assert time.monotonic() < end, json.dumps(ws, indent=1)[-3000:]
            time.sleep(0.3)
        return ws

    def close(self) -> None:
        """End every lease, then the daemon; nothing of them runs any more."""
        try:
            self.cli("destroy", "--all", "--yes", "--timeout", "60")
            self.cli("fsck", "--prove")
        finally:
            os.kill(self.pid, signal.SIGTERM)
            end = time.monotonic() + ENDS_S
            while self._left() and time.monotonic() < end:
                time.sleep(0.1)
            assert not self._left()

    def _left(self) -> list[str]:
        """Processes that name this home, guests and switches among them."""
        done = subprocess.run(["pgrep", "-af", str(self.home)], capture_output=True, text=True)
        return [line for line in done.stdout.splitlines() if "pgrep" not in line]
