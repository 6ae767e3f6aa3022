"""A spool with one slot, and a daemon's part in it: writes commands, reads notifications.

Starts real launchers and pilots on any interpreter, and ends what it started.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wspilot.messages import (
    CMD,
    HB,
    NEW,
    Kind,
    Notification,
    Order,
    Verb,
    cmd_dir,
    parse_beat_name,
    parse_note_name,
    read_note,
    rfc3339,
    seal,
)

BUDGET = {"launch": 5, "gather": 0, "propagate": 5, "reserve": 5, "boot": 10, "pad": 0, "save": 0,
          "stop": 2, "restore": 5, "slack": 5}  # fmt: skip


class Slot:
    """One slot on a private spool; `node` is unique, so that its directories are ours."""

    def __init__(self, root: Path, zipapp: Path, python: str, **settings: Any) -> None:
        self.spool, self.zipapp, self.python = root / "spool", zipapp, python
        self.id, self.key = uuid.uuid4().hex[:8], os.urandom(32)
        self.node = f"test-{self.id}"
        self.orders = 0
        self.heard: list[Notification] = []
        self.children: list[subprocess.Popen[bytes]] = []
        for name in ("new", "tmp", "hb", "bad", "cmd", "bin", f"slots/{self.id}"):
            (self.spool / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.place = self.spool / "slots" / self.id
        self.settings = {
            "v": 1, "slot": self.id, "workspace": "w" * 8, "nodes": 1, "pack": False,
            "memory_mib": 512, "lease_s": 60, "walltime_s": 300, "budget": BUDGET,
            "adapter": "sim", "take_mib": 64, "vmm": "sim",
            "vmm_options": {"boot_s": 0.2, "stop_s": 0.05}, "start": [], "node_list": "local",
            "grace_s": 5.0, "stop_share": 0.6, "allow_root": True, "guardian": True,
            "node_python": python, "workspace_key": "00" * 32, "heartbeat_s": 30,
            "repair": False, "lrm": "local", **settings,
        }  # fmt: skip
        (self.place / "pilot.json").write_text(json.dumps(self.settings))
        (self.place / "key").write_text(self.key.hex())

    # -- starting and ending

    def launch(self, nodes: tuple[str, ...] = (), **env: str) -> subprocess.Popen[bytes]:
        """What the job script does."""
        names = ",".join(nodes or (self.node,))
        env = {"PATH": "/usr/bin:/bin", "WSPILOT_LOCAL_NODES": names, **env}
        argv = [self.python, str(self.zipapp), "launch", "--spool", str(self.spool)]
        with open(self.place / "job.out", "ab") as output:
            child = subprocess.Popen(
                [*argv, "--slot", self.id],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.children.append(child)
        return child

    def close(self) -> None:
        """End what is left of it, by session and by pid."""
        for child in self.children:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait(10)
        end = time.monotonic() + 15
        while self.processes() and time.monotonic() < end:
            time.sleep(0.05)

    def processes(self) -> list[str]:
        """Command lines that name this slot."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue
                if self.id in line:
                    found.append(f"{entry.name} {line}")
        return found

    def pilot_pid(self) -> int:
        """From its `started`."""
        return int(self.wait(Kind.STARTED).data["pid"])

    def leftovers(self) -> list[Path]:
        """What lies about on the node."""
        found = []
        for root in (f"/{top}/wspilot-{os.getuid()}" for top in ("tmp", "var/tmp")):
            for folder, folders, names in os.walk(root):  # passes over what vanishes meanwhile
                if folder == root:
                    folders[:] = [one for one in folders if one.startswith(self.node)]
                else:
                    found += [Path(folder, one) for one in (*folders, *names)]
        return found

    def output(self) -> str:
        """What launcher and pilots wrote, with the pilots' own logs."""
        logs = [self.place / "job.out", *sorted(self.place.glob("pilot-*.log"))]
        return "\n".join(path.read_text() for path in logs)

    # -- the daemon's part

    def listen(self) -> None:
        """Read what is new, in order; unlink it."""
        for path in sorted((self.spool / "new").iterdir()):
            name = parse_note_name(path.name)
            self.heard.append(read_note(NEW, self.key, path.read_bytes(), name))
            path.unlink()

    def wait(
        self, kind: Kind, where: Callable[[Notification], bool] = lambda _: True, limit: float = 15
    ) -> Notification:
        """The first notification of that kind; fails after `limit` seconds."""
        end = time.monotonic() + limit
        while True:
            self.listen()
            for note in self.heard:
                if note.kind is kind and where(note):
                    return note
            if time.monotonic() > end:
                output = self.output()
                raise AssertionError(f"no {kind.value}; heard {self.kinds()}\n{output}")
            time.sleep(0.01)

    def vm(self, id: str, state: str, limit: float = 15) -> Notification:
        """The report that a VM is in that state."""
        return self.wait(
            Kind.VM, lambda note: note.data["id"] == id and note.data["state"] == state, limit
        )

    def kinds(self) -> list[str]:
        """What was heard, in words."""
        return [
            note.kind.value + (f":{note.data['state']}" if note.kind is Kind.VM else "")
            for note in self.heard
        ]

    def beat(self) -> Notification:
        """The heartbeat that lies there now."""
        (path,) = (self.spool / "hb").iterdir()
        return read_note(HB, self.key, path.read_bytes(), parse_beat_name(path.name))

    def send(self, verb: Verb, ttl_s: float = 600.0, order_id: str = "", **data: Any) -> str:
        """A command to the first pilot that spoke; its id."""
        started = self.wait(Kind.STARTED)
        self.orders += 1
        order = Order(
            self.id, started.node, started.pilot, started.epoch, self.orders, verb,
            order_id or uuid.uuid4().hex[:8], ttl_s, rfc3339(time.time()), 0.0, data,
        )  # fmt: skip
        name = order.file_name(time.time_ns())
        draft = self.spool / "tmp" / name
        draft.write_bytes(seal(CMD, self.key, order.body()))
        self.give(draft)
        draft.rename(self.spool / "cmd" / cmd_dir(self.id, started.node, started.pilot) / name)
        return order.id

    def give(self, path: Path) -> None:
        """To the slot's user, where that is another one."""

    def create(self, vm: str = "vm000001", **more: Any) -> str:
        """A `create` as the daemon sends it; returns the command's id."""
        data = {
            "id": vm, "name": f"one/vm/{int(vm[-1])}", "uuid": str(uuid.uuid4()), "cpus": 1,
            "memory_mib": 64, "image": {"name": "small", "kind": "sim"}, "ready": "agent",
            "nics": [], "boot_s": 10, **more,
        }  # fmt: skip
        return self.send(Verb.CREATE, **data)
