"""What the demo leases: real guests where QEMU is installed, simulated ones elsewhere, and why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import wspilot
from wspilot.errors import UsageError, WspilotError

PROGRAM = "qemu-system-x86_64"
SITE = """\
[site]
lrm = "local"
vmm = {vmm}
images = {images}
idle_exit = "2m"
[images]
cache = "0MiB"
[lrm.local]
nodes = 4
cores = 4
memory = "2GiB"
[budget]
boot = "6m"
[[type]]
name = "small"
cpus = 1
memory = "128MiB"
disk = "1GiB"
[[type]]
name = "medium"
cpus = 2
memory = "256MiB"
disk = "4GiB"
[[type]]
name = "large"
cpus = 4
memory = "512MiB"
disk = "8GiB"
[network.private]
way = "user"
cidr = "10.77.0.0/16"
[network.public]
way = "user"
cidr = "10.78.0.0/16"
"""


@dataclass(frozen=True)
class Guests:
    """Which VMM, and the folder of the guest's image (none for sim)."""

    vmm: str
    words: str
    image: Path | None = None

    def write(self, home: Path) -> Path:
        """The site's TOML and its image repository below `home`."""
        images = home / "images"
        images.mkdir()
        if self.image is not None:
            for name in ("default", "small"):
                (images / name).symlink_to(self.image, target_is_directory=True)
        path = home / "site.toml"
        path.write_text(SITE.format(vmm=json.dumps(self.vmm), images=json.dumps(str(images))))
        return path


def choose(wish: str, say: Callable[[str], None]) -> Guests:
    """Real guests if they can be had. Raises WspilotError when `wish` is qemu and they cannot."""
    if wish == "sim":
        return Guests("sim", "simulated (sim), as asked for")
    try:
        return Guests("qemu", f"real ones, {PROGRAM}", _build(say))
    except WspilotError as error:
        if wish == "qemu":
            raise
        return Guests("sim", f"simulated (sim), because {error.message}. {error.hint}".strip())


def _build(say: Callable[[str], None]) -> Path:
    if shutil.which(PROGRAM) is None:
        raise WspilotError(
            f"{PROGRAM} is not installed", "For real ones: apt install qemu-system-x86 qemu-utils"
        )
    from wspilot.guest import build_guest, default_cache

    cache = default_cache()
    if not (cache / "guest" / "image.json").exists():
        say("building the small guest from Debian packages, once (about 10 s)")
    try:
        return build_guest(cache / "guest", cache / "deb").out.resolve()
    except OSError as error:
        raise WspilotError(f"the guest cannot be built: {error}") from None


def example(name: str) -> Path:
    """A file of examples/, from the wheel or from a clone. Raises UsageError."""
    package = Path(wspilot.__file__).resolve().parent
    for place in (package / "_data" / "examples", package.parent / "examples"):
        if (place / name).is_file():
            return place / name
    raise UsageError(f"examples/{name} is not there", "give an ensemble: wspilot demo FILE.toml")
