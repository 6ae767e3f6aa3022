"""Hosts from where images come, on this machine alone: a real sshd, and a TLS server's name."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PRIVSEP = Path("/run/sshd")  # without which root's sshd does not start
SERVER = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {place}/host
AuthorizedKeysFile {place}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
"""
# What a site lays out in ~/.ssh of the nodes' users, which is not ours to touch.
CLIENT = """\
#!/bin/sh
exec {ssh} -F none -o IdentitiesOnly=yes -o IdentityFile={place}/user \\
  -o UserKnownHostsFile={place}/known_hosts -o GlobalKnownHostsFile=none "$@"
"""


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout


@dataclass(frozen=True)
class FarHost:
    """An sshd, and an `ssh` in `bin` that has its user's key and knows its host key."""

    place: Path
    url: str

    def strange(self) -> None:
        """Its host key is another one than the user has seen."""
        (self.place / "known_hosts").write_text("")

    def locked(self) -> None:
        """The user's key is no longer accepted."""
        (self.place / "user.pub").write_text("")


@contextlib.contextmanager
def far_host(place: Path) -> Iterator[FarHost]:
    place.mkdir()
    for name in ("host", "user"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / name))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (place / "conf").write_text(SERVER.format(port=port, place=place))
    (place / "known_hosts").write_text(f"[127.0.0.1]:{port} {(place / 'host.pub').read_text()}")
    (place / "bin").mkdir()
    client = place / "bin" / "ssh"
    client.write_text(CLIENT.format(ssh=shutil.which("ssh"), place=place))
    client.chmod(0o755)
    made = os.geteuid() == 0 and not PRIVSEP.is_dir()
    if made:
        PRIVSEP.mkdir(mode=0o755)
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/bin") or "sshd"
    server = subprocess.Popen([sshd, "-D", "-f", str(place / "conf"), "-E", str(place / "log")])
    try:
        _wait(port, server)
        yield FarHost(place, f"ssh://{getpass.getuser()}@127.0.0.1:{port}")
    finally:
        server.terminate()
        server.wait(20)
        if made:
            PRIVSEP.rmdir()


def _wait(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert server.poll() is None and time.monotonic() < end, "sshd does not listen"
        time.sleep(0.05)


def certificate(place: Path) -> tuple[ssl.SSLContext, Path]:
    """What a TLS server on 127.0.0.1 says of itself, signed by nobody but itself; its file."""
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
        "-keyout", str(place / "tls.key"), "-out", str(place / "tls.crt"))  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "tls.crt", place / "tls.key")
    return context, place / "tls.crt"
