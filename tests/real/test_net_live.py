"""Console and ssh of real guests, through the command line and the pilots' live channels."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.lab import Lab
from tests.real.ssh_guest import START, build_ssh_guest
from tests.real.window import Window
from wspilot.guest import default_cache

pytestmark = pytest.mark.real
ENSEMBLE = """[workspace]
name = "w"
duration = "20m"
ssh_keys = ["{key}"]
[[group]]
name = "n"
count = 3
type = "small"
nics = ["private"]
roles = {{ provides = ["n"] }}
user_data = '''{start}'''
"""


class Reached(Lab):
    """A lease of three guests with ssh servers, each on a node of its own."""

    def __init__(self, place: Path) -> None:
        super().__init__(place, build_ssh_guest(default_cache()))
        self.id = place / "id"
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.id)]
        subprocess.run(argv, check=True, timeout=20)
        key = self.id.with_suffix(".pub").read_text().strip()
        (place / "w.toml").write_text(ENSEMBLE.format(key=key, start=START))
        self.cli("deploy", str(place / "w.toml"), "--wait", "--timeout", "280")
        self.until("w", lambda ws: all(vm["context"] == "ok" for vm in ws["vms"]))

    def env(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key != "SSH_AUTH_SOCK"}
        return {**kept, "WSPILOT_HOME": str(self.home), "XDG_RUNTIME_DIR": "", "TERM": "xterm"}

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "wspilot", *words]

    def ssh(
        self, vm: str, command: str, given: bytes = b"", options: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[bytes]:
        words = ("-i", str(self.id), "-F", "none", "-o", "BatchMode=yes", *options, command)
        return subprocess.run(
            self.argv("ssh", vm, "--", *words), env=self.env(), input=given,
            capture_output=True, timeout=60,
        )  # fmt: skip

    def reach(self, vm: str) -> dict[str, Any]:
        found: dict[str, Any] = self.cli("console", vm)["reach"]
        return found

    def console(self, vm: str) -> Window:
        window = Window(self.argv("console", vm), self.env())
        window.until(b"Ctrl-] leaves it")
        return window

    def qemu(self, vm: str) -> int:
        """The pid of a VM's QEMU."""
        pilot = str(_pilot(self.reach(vm)))
        argv = ["pgrep", "-P", pilot, "-f", f"qemu-system-x86_64 -name guest={vm} "]
        found = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20)
        return int(found.stdout)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reached]:
    one = Reached(tmp_path_factory.mktemp("live"))
    yield one
    one.close()


def listening(pid: int) -> list[str]:
    """TCP ports on which a process listens (proc(5), state 0A)."""
    links = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in links]


def test_ssh_goes_to_a_guest_whose_host_key_was_known_before_it_was(lab: Reached) -> None:
    done = lab.ssh("w/n/1", "hostname; cat; exit 7", b"what was typed\n")
    assert (done.returncode, done.stdout) == (7, b"n-1\nwhat was typed\n"), done.stderr
    data = os.urandom(1 << 20)
    there = lab.ssh("w/n/2", "cat >/tmp/x; md5sum </tmp/x", data)
    assert there.stdout.split()[0].decode() == hashlib.md5(data).hexdigest(), there.stderr
    back = lab.ssh("w/n/2", "cat /tmp/x")
    assert back.stdout == data
    assert listening(lab.qemu("w/n/1")) == listening(lab.qemu("w/n/2")) == []


def test_another_host_key_is_not_believed(lab: Reached) -> None:
    """Led to a guest that is not the one that was asked for: ssh itself sees it."""
    wrong = lab.reach("w/n/2")
    proxy = " ".join(lab.argv("_forward", lab.reach("w/n/1")["id"], "22"))
    options = (f"HostKeyAlias={wrong['id']}", f"ProxyCommand={proxy}", "StrictHostKeyChecking=yes")
    known = lab.home / "known"
    for key, code in ((wrong["host_key"], 255), (lab.reach("w/n/1")["host_key"], 0)):
        known.write_text(f"{wrong['id']} {key}\n")
        given = (*options, f"UserKnownHostsFile={known}")
        argv = ["ssh", "-F", "none", "-i", str(lab.id), "-l", "root",
                *(word for one in given for word in ("-o", one)), "anything", "true"]  # fmt: skip
        done = subprocess.run(argv, env=lab.env(), capture_output=True, timeout=60)
        assert done.returncode == code, done.stderr


def test_connections_at_the_same_time_and_one_to_a_port_that_nobody_allowed(lab: Reached) -> None:
    argv = lab.argv("ssh", "w/n/1", "--", "-i", str(lab.id), "-F", "none", "cat")
    first = subprocess.Popen(argv, env=lab.env(), stdin=-1, stdout=-1)
    try:
        assert lab.ssh("w/n/1", "echo second").stdout == b"second\n"
        out, _ = first.communicate(b"first", timeout=30)  # it has outlived the other
        assert out == b"first"
    finally:
        first.kill()
        first.wait()
    done = lab.run("_forward", "w/n/1", "80")
    assert done.returncode == 5 and "port 80 is not forwarded here; allowed: 22" in done.stderr
    nobody = lab.run("_forward", "w/n", "22")
    assert nobody.returncode == 2 and "which one" in nobody.stderr


def test_a_guest_is_suspended_and_resumed_though_somebody_is_logged_in(lab: Reached) -> None:
    """Its memory must name no user network: a QEMU that has none could not take it back."""
    argv = lab.argv("ssh", "w/n/2", "--", "-i", str(lab.id), "-F", "none", "echo in; sleep 100")
    one = subprocess.Popen(argv, env=lab.env(), stdin=-3, stdout=-1, stderr=-3)
    try:
        assert one.stdout is not None and one.stdout.readline() == b"in\n"
        lab.cli("suspend", "w/n/2", "--timeout", "60")
        assert one.wait(20) == 255
    finally:
        one.kill()
        one.wait()
    lab.cli("resume", "w/n/2", "--timeout", "60")
    assert lab.ssh("w/n/2", "hostname").stdout == b"n-2\n"


def test_a_console_is_typed_at_left_and_the_window_is_as_it_was(lab: Reached) -> None:
    window = lab.console("w/n/1")
    other = lab.console("w/n/1")
    try:
        window.type(b"\recho $((6*7))-here\r")
        window.until(b"42-here")
        other.until(b"42-here")
        window.type(b"\x03\x1a\x13\x11")  # Ctrl-C, Ctrl-Z, Ctrl-S, Ctrl-Q are the guest's
        assert window.modes() != window.before
        other.type(b"and this is not sent\x1d nor this")
        assert other.ends() == 0 and b"detached" in other.shown
        window.type(b"\x1d")
        assert window.ends() == 0
        assert window.modes() == window.before and other.modes() == other.before
        assert b"\x1b[?1049l" in window.shown and b"left the console of w/n/1" in window.shown
    finally:
        window.close()
        other.close()
    logs = lab.cli("logs", "w/n/1")["logs"]
    assert logs[0]["name"] == "job.sh" and "launch --spool" in logs[0]["text"], "as submitted"
    logged = next(one for one in logs if one["name"].startswith("console-"))
    end = time.monotonic() + 15  # the courier copies logs every 5 s
    while "42-here" not in logged["text"] and time.monotonic() < end:
        time.sleep(0.5)
        logged = next(one for one in lab.cli("logs", "w/n/1")["logs"]
                      if one["name"].startswith("console-"))  # fmt: skip
    assert "42-here" in logged["text"]
    assert lab.run("console", "w/n/1").returncode == 2  # no terminal


def test_a_guest_that_floods_its_console_does_not_keep_the_user_there(lab: Reached) -> None:
    """Escape sequences, questions to the terminal, and a window that is not read at all."""
    window = lab.console("w/n/1")
    try:
        window.type(
            b"\x03\rwhile :; do printf '\\033[6n\\033[?1049h\\033[?25l\\035flood%0200d' 0; done\r"
        )
        window.until(b"flood0000")
        time.sleep(1.0)  # the terminal is full now, and so is all behind it
        window.type(b"\x1d")
        assert window.ends(20, read=False) == 0
        assert window.modes() == window.before
    finally:
        window.close()
    assert lab.ssh("w/n/3", "hostname").stdout == b"n-3\n"  # nobody else noticed
    again = lab.console("w/n/1")
    try:
        again.type(b"\x03")
        time.sleep(0.5)
        again.type(b"\recho st''opped\r")
        again.until(b"stopped")
        again.process.send_signal(signal.SIGTERM)
        assert again.ends() == 128 + signal.SIGTERM
        assert again.modes() == again.before
    finally:
        again.close()


def test_strangers_at_the_port_of_a_pilot(lab: Reached) -> None:
    """The negative control is every other test here: with the key they do get in."""
    where = lab.reach("w/n/3")
    held = [socket.create_connection((where["host"], where["port"]), 10) for _ in range(100)]
    try:
        for one, words in zip(held, (b"GET / HTTP/1.0\r\n\r\n", b"\0" * 5000, b"HELLO x\n"),
                              strict=False):  # fmt: skip
            one.sendall(words)
        assert lab.ssh("w/n/3", "hostname").stdout == b"n-3\n"
        held[0].settimeout(10)
        seen = b""
        while part := _read(held[0]):
            seen += part
        assert seen.startswith(b"WSPILOT-LIVE 1 ") and seen.count(b"\n") <= 1
    finally:
        for one in held:
            one.close()


def _read(one: socket.socket) -> bytes:
    try:
        return one.recv(4096)
    except ConnectionError:
        return b""


def test_consoles_end_with_their_vm_and_with_their_pilot(lab: Reached) -> None:
    member, node = lab.console("w/n/3"), lab.console("w/n/2")
    pilot = lab.reach("w/n/2")
    try:
        lab.cli("destroy", "w/n/3", "--yes", "--timeout", "60")
        assert member.ends() == 0 and member.modes() == member.before
        assert b"left the console of w/n/3: the VM has ended" in member.shown
        ended = lab.run("console", "w/n/3")
        assert ended.returncode == 5 and "has ended" in ended.stderr
        os.kill(_pilot(pilot), signal.SIGKILL)
        assert node.ends() == 0 and node.modes() == node.before
        assert b"left the console of w/n/2: " in node.shown
    finally:
        member.close()
        node.close()


def _pilot(where: dict[str, Any]) -> int:
    """Whoever listens at that address."""
    wanted = f"{where['port']:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inode = next(row[9] for row in rows if row[3] == "0A" and row[1].endswith(f":{wanted}"))
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(path.readlink()) == f"socket:[{inode}]":
                return int(path.parts[2])
        except OSError:
            continue
    raise AssertionError(json.dumps(where))
