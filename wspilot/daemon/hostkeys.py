"""Ssh host keys of VMs, made on the headnode before a VM exists.

So every member knows every other's key before it boots, and `wspilot ssh` never has to trust the
first answer it gets. They lie in slots/<slot>/hostkeys/ (0600) and nowhere else; they go with the
slot's key. Where there is no ssh-keygen guests make their own, and nobody vouches for them.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from wspilot.ensemble import ssh_key
from wspilot.errors import UsageError

MOST_KEYS = 8
log = logging.getLogger("wspilot")
PLACE = "hostkeys"
KEYGEN_S = 20.0


def make(slot: Path, hosts: Mapping[str, str]) -> None:
    """A key for each VM (id -> host name) that has none yet. Blocks some 5 ms each.

    Raises OSError when the directory cannot be written to.
    """
    keygen = shutil.which("ssh-keygen")
    if keygen is None:
        log.warning("no ssh-keygen here: guests make their own host keys, unknown to each other")
        return
    place = slot / PLACE
    place.mkdir(mode=0o700, exist_ok=True)
    for id, host in hosts.items():
        if not (place / f"{id}.pub").exists():
            (place / id).unlink(missing_ok=True)  # half made by a daemon that was killed
            _make(keygen, place / id, host)


def _make(keygen: str, path: Path, host: str) -> None:
    argv = [keygen, "-q", "-t", "ed25519", "-N", "", "-C", host, "-f", str(path)]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=KEYGEN_S)
    except subprocess.TimeoutExpired:
        raise OSError(f"ssh-keygen took longer than {KEYGEN_S:g} s") from None
    if done.returncode:
        raise OSError(f"ssh-keygen: {done.stderr.decode('utf-8', 'replace')[:200]}")


def private(slot: Path, vm: str) -> str:
    """A VM's private key in OpenSSH's text form; empty where there is none."""
    try:
        return (slot / PLACE / vm).read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return ""


def public(slots: Path, ids: Iterable[str]) -> dict[str, str]:
    """VM id -> public key (type and base64) of all VMs of these slots."""
    found = {}
    for slot in ids:
        for path in (slots / slot / PLACE).glob("*.pub"):
            try:
                found[path.stem] = " ".join(path.read_text("ascii").split()[:2])
            except (OSError, UnicodeDecodeError):
                continue
    return found


def users() -> tuple[str, ...]:
    """The public keys of whoever runs the daemon (~/.ssh/*.pub): they may log in to its VMs."""
    found = []
    for path in sorted(Path.home().glob(".ssh/*.pub"))[:MOST_KEYS]:
        try:
            found.append(ssh_key(path.read_text("utf-8"), path.name))
        except (OSError, UnicodeDecodeError, UsageError):
            continue  # a certificate or something that is no key at all
    return tuple(found)


__all__ = ["make", "private", "public", "users"]
