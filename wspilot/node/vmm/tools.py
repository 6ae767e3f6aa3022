"""Programs of the node that wspilot runs: where they are, and which package brings them."""

from __future__ import annotations

import os
import shutil

from wspilot.errors import WspilotError

PACKAGES = ("qemu-system-x86", "qemu-utils")  # Debian's names
# A job's PATH may lack any of them; what makes filesystems is in sbin.
PLACES = "/usr/bin:/usr/local/bin:/usr/libexec:/opt/qemu/bin:/usr/sbin:/sbin"


def program(what: str, names: tuple[str, ...], packages: tuple[str, ...] = PACKAGES) -> str:
    """Where it is. Raises WspilotError naming the packages to install."""
    path = os.pathsep.join((os.environ.get("PATH", ""), PLACES))
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    raise WspilotError(
        f"{what} is not installed on this node ({' or '.join(names)})",
        "on Debian: apt-get install --no-install-recommends " + " ".join(packages),
    )
