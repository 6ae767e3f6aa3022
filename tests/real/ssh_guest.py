"""The small guest with an ssh server: dropbear and its libraries from Debian, appended to its
initramfs as a second archive, which the kernel unpacks over the first."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

from wspilot import guest
from wspilot.guest import GuestImage, build_guest

PACKAGES = ("dropbear-bin", "libtomcrypt1", "libtommath1", "libgmp10", "libcrypt1", "zlib1g",
            "libc6")  # fmt: skip
LIBRARIES = ("libtomcrypt.so.1", "libtommath.so.1", "libgmp.so.10", "libcrypt.so.1", "libz.so.1",
             "libc.so.6")  # fmt: skip
PROGRAMS = ("dropbear", "dropbearconvert")
LOADER = "ld-linux-x86-64.so.2"
# The agent has put our host key and the user's keys in their places; root's home is / here.
START = """#!/bin/sh
/usr/sbin/dropbearconvert openssh dropbear /etc/ssh/ssh_host_ed25519_key /run/key 2>/dev/null ||
  exit 1
mkdir -p /dev/pts /.ssh && mount -t devpts p /dev/pts
cp /root/.ssh/authorized_keys /.ssh/ && chmod 700 / /.ssh && chmod 600 /.ssh/*
/usr/sbin/dropbear -s -r /run/key && echo listening
"""


def build_ssh_guest(cache: Path) -> GuestImage:
    """Some seconds, or a few hundred ms when the packages are there. Raises WspilotError."""
    plain = build_guest(cache / "guest", cache / "deb")
    out = cache / "guest-ssh"
    out.mkdir(parents=True, exist_ok=True)
    initrd = (plain.out / "initrd").read_bytes() + gzip.compress(guest.cpio(_tree(cache)), 6)
    (out / "initrd").write_bytes(initrd)
    shutil.copy(plain.out / "vmlinuz", out)
    doc = json.loads((plain.out / "image.json").read_text())
    doc["sizes"] = {name: (out / name).stat().st_size for name in ("vmlinuz", "initrd")}
    del doc["digest"]
    (out / "image.json").write_text(json.dumps(doc))
    image = {**plain.image, "initrd": str(out / "initrd")}
    return replace(plain, out=out, image=image, disk=None)


def _tree(cache: Path) -> dict[str, tuple[int, bytes]]:
    places = ("lib/x86_64-linux-gnu/", "lib64/", "usr/", "usr/sbin/")
    tree: dict[str, tuple[int, bytes]] = dict.fromkeys(places, (493, b""))
    for package in PACKAGES:
        for path, data in guest._files(guest._deb(cache / "deb", package)):
            name = path.rsplit("/", 1)[-1]
            library = next((one for one in LIBRARIES if name.startswith(one)), "")
            if name == LOADER:
                tree[f"lib64/{name}"] = (0o755, data())
            elif library:
                tree[f"lib/x86_64-linux-gnu/{library}"] = (0o755, data())
            elif name in PROGRAMS and "bin/" in path:
                tree[f"usr/sbin/{name}"] = (0o755, data())
    missing = {*LIBRARIES, *PROGRAMS, LOADER} - {path.rsplit("/", 1)[-1] for path in tree}
    assert not missing, missing
    return tree
