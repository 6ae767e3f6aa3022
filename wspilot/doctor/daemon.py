"""The daemon: is there one, will it outlive the logout, and what has it learned from the nodes?"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from wspilot import __version__
from wspilot.doctor.verdict import Check, Facts, fail, ok, warn
from wspilot.home import boot_id, read_record, start_time
from wspilot.text import clean

SKEW_WARN_S = 5.0
ASK_S = 5.0
SYSTEMD = Path("/run/systemd/system")


def alive(facts: Facts) -> Iterator[Check]:
    """Lock record, socket, version, and what the daemon's own polls say."""
    status, record = facts.status, read_record(facts.home)
    if status is None:
        if record is None:
            yield warn("daemon", f"none runs on {facts.home}", "wspilot daemon --detach")
        elif record.host != socket.gethostname():
            yield warn("daemon", f"it runs on {record.host}", f"ask there: ssh {record.host}")
        elif record.boot_id == boot_id() and start_time(record.pid) == record.start:
            yield fail(
                "daemon",
                f"pid {record.pid} lives and does not answer: {facts.fault}",
                f"see {facts.home}/log/daemon.log; end it with: kill {record.pid}",
            )
        else:
            yield warn("daemon", f"pid {record.pid} is gone without a farewell; leases go on",
                       "wspilot daemon --detach")  # fmt: skip
        return
    text = f"pid {status['pid']}, version {status['version']}"
    if status["version"] != __version__:
        yield warn("daemon", f"{text}; this wspilot is {__version__}", "end it and start it again")
    else:
        yield ok("daemon", text)
    if status["poll"]["ok"] is False:
        yield fail("daemon", f"its last poll of {status['lrm']} failed: {status['poll']['text']}",
                   "leases keep their state until a poll works")  # fmt: skip
    if status["spool"]["text"]:
        yield fail("daemon", f"its spool: {status['spool']['text']}", "see its log")
    if status["spool"]["bad"]:
        yield warn("daemon", f"{status['spool']['bad']} files were refused",
                   f"each has its reason beside it: {status['spool']['path']}/bad")  # fmt: skip


def logout(facts: Facts) -> Iterator[Check]:
    """Whether a detached daemon lives on when its user logs out (logind.conf(5))."""
    name = "logout"
    if not SYSTEMD.exists():
        yield ok(name, "no systemd here: a detached daemon lives until the machine or container"
                 " stops")  # fmt: skip
        return
    user = getpass.getuser()
    if _say("loginctl", "show-user", user, "--property=Linger", "--value") == "yes":
        yield ok(name, f"{user} lingers: the daemon survives the logout")
        return
    kills = _say("busctl", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1",
                 "org.freedesktop.login1.Manager", "KillUserProcesses")  # fmt: skip
    if kills == "b true" and os.getuid() != 0:
        yield warn(
            name,
            "systemd ends your processes at logout (KillUserProcesses=yes)",
            f"loginctl enable-linger {user}; then systemd-run --user wspilot daemon",
        )
    elif kills in ("b false", "b true"):
        yield ok(name, "systemd leaves processes alone at logout")
    else:
        yield warn(name, "logind does not say whether it ends processes at logout",
                   f"loginctl enable-linger {user}")  # fmt: skip


def clocks(facts: Facts) -> Iterator[Check]:
    """Clock skew, as each node's first word showed it. Nothing is decided by it."""
    known = [node for node in facts.nodes if node["skew_s"] is not None]
    if not known:
        yield ok("clocks", "not compared yet: no node has spoken")
        return
    worst = max(known, key=lambda node: abs(node["skew_s"]))
    text = f"{len(known)} nodes, at most {abs(worst['skew_s']):.2f} s apart ({worst['name']})"
    if abs(worst["skew_s"]) > SKEW_WARN_S:
        yield warn("clocks", text, "leases do not depend on it, but log times will mislead: NTP")
    else:
        yield ok("clocks", text)


def nodes(facts: Facts) -> Iterator[Check]:
    """Nodes that could not be proved clean, and what the others said of themselves."""
    for node in facts.nodes:
        if node["state"] in ("dirty", "unknown"):
            yield warn(
                "nodes",
                f"{node['name']} is {node['state']}: {node['cause']}",
                f"look at it; when it is clean: wspilot nodes forget {node['name']}",
            )
    if facts.nodes:
        kvm = sum(node["kvm"] is True for node in facts.nodes)
        yield ok("nodes", f"{len(facts.nodes)} have spoken, {kvm} of them with KVM that works")
    else:
        yield ok("nodes", "none has been used yet: deploy something and ask again")


def _say(*argv: str) -> str:
    """What a command prints; empty when it cannot say."""
    if shutil.which(argv[0]) is None:
        return ""
    try:
        done = subprocess.run(argv, capture_output=True, timeout=ASK_S, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return clean(done.stdout, 200) if done.returncode == 0 else ""
