"""DHCP for the guests of a bridge, for the root helper: one dnsmasq(8) a bridge, which knows the
guests of this node by MAC and answers nobody else.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import time
from pathlib import Path

from wspilot.node.root_helper import STEP_S, Records, Refused, Words, program, run

RUN = Path("/run/wspilot-root")


def served() -> set[str]:
    """The bridges that have a dnsmasq of ours, or had one."""
    return {path.name for path in RUN.iterdir()} if RUN.is_dir() else set()


def serve(bridge: str, taps: Records) -> None:
    """Make dnsmasq answer for these taps on a bridge; without taps there is none."""
    home = RUN / bridge
    argv = dnsmasq_argv(bridge, home, taps)
    if not taps:
        _end_dnsmasq(home)
        _remove_all(home)
        return
    for kind in ("hosts", "options"):
        (home / kind).mkdir(parents=True, exist_ok=True)
        (home / kind).chmod(0o755)
        wanted = {tap: _dhcp_words(kind, tap, one) for tap, one in taps.items()}
        for path in list((home / kind).iterdir()):
            if path.name not in wanted:
                path.unlink()
        for tap, text in wanted.items():
            if not (home / kind / tap).is_file() or (home / kind / tap).read_text() != text:
                (home / kind / tap).write_text(text)
                (home / kind / tap).chmod(0o644)
    pid = _dnsmasq_pid(home)
    if pid and _command_line(pid)[1:] == argv[1:]:
        os.kill(pid, signal.SIGHUP)  # what has gone is noticed by this alone
        os.kill(pid, signal.SIGCONT)  # it is the node's, also when its first job is suspended
        return
    _end_dnsmasq(home)
    if not program("dnsmasq"):
        raise Refused("dnsmasq is not installed", "apt-get install dnsmasq-base")
    if not run(["ip", "-4", "-o", "address", "show", "dev", bridge]).strip():
        raise Refused(
            f"bridge {bridge} has no IPv4 address, from which DHCP could answer",
            f"ip address add ADDRESS/PREFIX dev {bridge}; any address will do",
        )
    run(argv)


def dnsmasq_argv(bridge: str, home: Path, taps: Records) -> list[str]:
    """dnsmasq(8)'s command line. A network need not be that of the bridge's own address."""
    argv = [
        "dnsmasq",
        "--conf-file=/dev/null",
        "--port=0",
        f"--interface={bridge}",
        "--except-interface=lo",
        "--bind-interfaces",
        f"--dhcp-hostsdir={home}/hosts",
        f"--dhcp-optsdir={home}/options",
        "--dhcp-ignore=tag:!known",
        "--dhcp-authoritative",
        "--leasefile-ro",
        "--log-facility=/dev/null",
        f"--pid-file={home}/pid",
    ]
    for text in sorted({one["network"] for one in taps.values()}):
        net = ipaddress.IPv4Network(text)
        argv += [
            f"--shared-network={bridge},{net.network_address + 1}",
            f"--dhcp-range={net.network_address},static,{net.netmask},infinite",
        ]
    return argv


def _dhcp_words(kind: str, tap: str, one: Words) -> str:
    tag = tap.replace(".", "-")
    if kind == "hosts":
        return f"{one['mac']},set:{tag},{one['ip']},infinite\n"
    lines = [f"tag:{tag},option:router{',' if one['gateway'] else ''}{one['gateway']}"]
    if one["dns"]:
        lines.append(f"tag:{tag},option:dns-server,{','.join(one['dns'])}")
    return "".join(f"{line}\n" for line in lines)


def _dnsmasq_pid(home: Path) -> int:
    """Its pid, when that process is ours indeed."""
    try:
        pid = int((home / "pid").read_text())
    except (OSError, ValueError):
        return 0
    return pid if f"--pid-file={home}/pid" in _command_line(pid) else 0


def _command_line(pid: int) -> list[str]:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return raw.decode("utf-8", "replace").split("\0")[:-1]


def _end_dnsmasq(home: Path) -> None:
    pid = _dnsmasq_pid(home)
    end = time.monotonic() + STEP_S
    while pid and _dnsmasq_pid(home) == pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if time.monotonic() > end:
            raise Refused(f"dnsmasq (pid {pid}) cannot be ended")
        time.sleep(0.005)


def _remove_all(home: Path) -> None:
    for path in sorted(home.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with contextlib.suppress(FileNotFoundError):
        home.rmdir()
