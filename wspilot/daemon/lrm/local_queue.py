"""The server of the built-in batch system: `python local_queue.py DIR NODES CORES MIB GRACE_S`.

Started by the first verb of `local_lrm.py`, where its rules stand; it ends 2 s after its last job.
Invariant: what was answered is in queue.json, and so is the intent to start a job before it starts:
killed at any moment, the next server finds every running process and starts none twice.
Standard library only; it imports nothing of ours, for it runs as a file.
"""

import json
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess

Doc = dict[str, Any]
TICK_S = 0.05
LINGER_S = 2.0
REMEMBER_S = 300.0
OPEN = ("queued", "held", "running", "suspended")
ON_NODES = ("running", "suspended")
WANTED = (("name", str), ("owner", str), ("nodes", int), ("ppn", int), ("memory_mib", int),
          ("walltime_s", int), ("script", str), ("output", str), ("whole_node", bool),
          ("pinned", list), ("exclude", list))  # fmt: skip


class Server:
    """The queue and its processes. One thread; everything it must not forget is in queue.json."""

    def __init__(self, nodes: "list[str]", cores: int, memory_mib: int, grace_s: float) -> None:
        self.nodes = nodes
        self.cores, self.memory_mib, self.grace_s = cores, memory_mib, grace_s
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.jobs: dict[str, Doc] = {}
        self.next = 1
        self.dirty, self.trouble = False, ""
        self.idle_since = time.monotonic()

    def serve(self) -> int:
        """Serve until idle. Exit code 0, also where another server has the directory."""
        import fcntl
        import selectors
        import signal

        lock = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return 0
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self.load()
        with socket.socket(socket.AF_UNIX) as listener:
            if os.path.exists("lrm.sock"):
                os.unlink("lrm.sock")
            listener.bind("lrm.sock")
            os.chmod("lrm.sock", 0o600)
            listener.listen(64)
            wait = selectors.DefaultSelector()
            wait.register(listener, selectors.EVENT_READ)
            while not self.finished():
                if wait.select(TICK_S):
                    self.answer(listener)
                self.step()
            os.unlink("lrm.sock")
        return 0

    def finished(self) -> bool:
        if any(job["state"] in OPEN for job in self.jobs.values()):
            self.idle_since = time.monotonic()
        return time.monotonic() - self.idle_since > LINGER_S

    def answer(self, listener: socket.socket) -> None:
        link, _ = listener.accept()
        with link:
            link.settimeout(5)
            try:
                data = b""
                while not data.endswith(b"\n") and len(data) < 1 << 20:
                    data += link.recv(65536) or b"\n"
                reply = self.obey(data)
            except OSError:
                return
            self.idle_since = time.monotonic()
            try:
                link.sendall(json.dumps(reply).encode() + b"\n")
            except OSError:
                pass

    # -- verbs

    def obey(self, data: bytes) -> Doc:
        """One request's answer, or what is wrong with it in words."""
        try:
            request = json.loads(data)
            verb, token = request.pop("verb"), request.pop("token", "")
            if verb == "submit":
                return self.submit(str(token), request)
            if verb == "list":
                return self.listing()
            job = self.jobs.get(str(request["id"]))
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            return {"error": f"bad request: {type(error).__name__}: {error}"}
        if verb == "cancel":
            return self.cancel(job)
        if verb not in VERBS:
            return {"error": f"no such verb: {verb}"}
        if job is None:
            return {"error": f"no such job: {request['id']}"}
        return self.operate(verb, job)

    def submit(self, token: str, wanted: Doc) -> Doc:
        for job in self.jobs.values():
            if token and job.get("token") == token:
                return {"id": job["id"]}
        fault = self.malformed(wanted) or self.impossible(wanted)
        if fault:
            return {"error": fault}
        id = str(self.next)
        self.next += 1
        self.jobs[id] = {**wanted, "id": id, "token": token, "state": "queued", "hosts": [],
                         "pid": 0, "born": 0, "exit": None, "reason": ""}  # fmt: skip
        try:
            self.save()
        except OSError as error:
            del self.jobs[id]
            return {"error": f"the queue could not be written: {error}", "later": True}
        self.step()
        return {"id": id}

    def malformed(self, wanted: Doc) -> str:
        for key, kind in WANTED:
            if type(wanted.get(key)) is not kind or (kind is int and wanted[key] < 1):
                return f"{key}: {wanted.get(key)!r:.80} cannot be submitted"
        return ""

    def impossible(self, wanted: Doc) -> str:
        """Why a job could never run here; empty when it can. First in, first out: it would hold
        up everybody for ever."""
        if wanted["nodes"] > len(self.nodes):
            return f"{wanted['nodes']} nodes are more than the {len(self.nodes)} there are"
        if wanted["ppn"] > self.cores:
            return f"{wanted['ppn']} cores a node are more than the {self.cores} there are"
        if wanted["memory_mib"] > self.memory_mib:
            return f"{wanted['memory_mib']} MiB a node are more than {self.memory_mib}"
        usable = [node for node in self.nodes if may_use(wanted, node)]
        if wanted["nodes"] > len(usable):
            return f"{wanted['nodes']} nodes are more than the {len(usable)} that the job may use"
        return ""

    def listing(self) -> Doc:
        keep = ("id", "name", "owner", "state", "hosts", "exit", "reason")
        return {"jobs": [{key: job[key] for key in keep} for job in self.jobs.values()]}

    def cancel(self, job: "Doc | None") -> Doc:
        if job is None or job["state"] == "done":
            return {"gone": True}
        job.pop("again", None)
        if job["state"] in ("queued", "held"):
            self.end(job, None, "cancelled")
        elif not job["kill_at"]:  # asked once more, its grace does not begin again
            self.terminate(job, "cancelled")
        self.save()
        return {"gone": False}

    def operate(self, verb: str, job: Doc) -> Doc:
        """The operator's verbs. `requeue` kills a job; it runs again under the same id."""
        import signal

        old, new, reason = VERBS[verb]
        if job["state"] != old:
            return {"error": f"job {job['id']} is {job['state']}, not {old}"}
        job["state"], job["reason"] = new, reason
        if verb == "requeue":
            job["again"] = True
            self.save()  # before the kill: its end must find it
            self.signal(job, signal.SIGKILL)
            return {"id": job["id"]}
        if verb in ("suspend", "resume"):
            self.signal(job, signal.SIGSTOP if verb == "suspend" else signal.SIGCONT)
        self.save()
        return {"id": job["id"]}

    # -- time

    def step(self) -> None:
        """Reap, enforce walltime and grace, start what fits, forget what is old."""
        import signal

        now, changed = time.time(), False
        for job in list(self.jobs.values()):
            if job["state"] in ON_NODES:
                code = self.gone(job)
                if code is not None:
                    self.signal(job, signal.SIGKILL)  # like Torque: what is left dies with it
                    self.end(job, code[0], job["reason"])
                    changed = True
                elif job.get("kill_at") and now > job["kill_at"]:
                    self.signal(job, signal.SIGKILL)
                elif not job.get("kill_at") and now > job["started"] + job["walltime_s"]:
                    self.terminate(job, "walltime exceeded")
                    changed = True
            elif job["state"] == "done" and now - job["ended"] > REMEMBER_S:
                del self.jobs[job["id"]]
                changed = True
        self.dirty = self.start_next() or changed or self.dirty
        if self.dirty:
            try:
                self.save()
            except OSError as error:  # a full disk: the jobs live on, and it is tried again
                if str(error) != self.trouble:
                    print(f"the queue could not be written: {error}", file=sys.stderr)
                self.trouble = str(error)

    def start_next(self) -> bool:
        started = False
        for job in list(self.jobs.values()):
            if job["state"] != "queued":
                continue
            hosts = self.place(job)
            if hosts is None:
                job["reason"] = "waiting for nodes"
                return started  # first in, first out: nobody overtakes
            self.start(job, hosts)
            started = True
        return started

    def place(self, job: Doc) -> "list[str] | None":
        """The nodes for a job, or None."""
        free = {node: [self.cores, self.memory_mib] for node in self.nodes}
        for other in self.jobs.values():
            if other["state"] in ON_NODES:
                for node in set(other["hosts"]) & set(self.nodes):
                    free[node][0] -= self.cores if other["whole_node"] else other["ppn"]
                    free[node][1] -= other["memory_mib"]
        cores = self.cores if job["whole_node"] else job["ppn"]
        fit = [
            node for node in self.nodes
            if free[node][0] >= cores and free[node][1] >= job["memory_mib"]
            and may_use(job, node)
        ]  # fmt: skip
        return fit[: job["nodes"]] if len(fit) >= job["nodes"] else None

    def start(self, job: Doc, hosts: list[str]) -> None:
        import subprocess

        env = {
            **os.environ,
            "WSPILOT_LOCAL_JOB": job["id"],
            "WSPILOT_LOCAL_NODES": ",".join(hosts),
            "WSPILOT_LOCAL_DIR": os.getcwd(),
            "WSPILOT_NODE": hosts[0],
        }
        job.update(state="running", hosts=hosts, started=time.time(), reason="", kill_at=None,
                   pid=0, born=0)  # fmt: skip
        try:
            self.save()  # the intent: killed after the next line, we must not start it again
            with open(job["output"], "ab", opener=private) as output:
                child = subprocess.Popen(
                    [job["script"]], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    env=env, cwd="/", start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            self.end(job, 127, f"could not be started: {error}")
            return
        self.children[job["id"]] = child
        job["pid"], job["born"] = child.pid, born(child.pid)

    def gone(self, job: Doc) -> "tuple[int | None] | None":
        """(exit code,) once the job's script has ended; None while it runs."""
        child = self.children.get(job["id"])
        if child is not None:
            code = child.poll()
            return None if code is None else (code if code >= 0 else 256 - code,)
        if not job["pid"]:  # we were killed between the intent and the pid
            job["pid"] = self.leader(job["id"])
            job["born"] = born(job["pid"])
        return None if job["born"] and born(job["pid"]) == job["born"] else (None,)

    def leader(self, id: str) -> int:
        """The first process of a job's session, by what it was started with; 0 when it is gone."""
        marks = {f"WSPILOT_LOCAL_JOB={id}", f"WSPILOT_LOCAL_DIR={os.getcwd()}"}
        for name in os.listdir("/proc"):
            if name.isdigit() and session(int(name)) == int(name):
                try:
                    with open(f"/proc/{name}/environ", "rb") as file:
                        if marks <= set(file.read().decode(errors="replace").split("\0")):
                            return int(name)
                except OSError:
                    pass
        return 0

    def terminate(self, job: Doc, reason: str) -> None:
        import signal

        job["reason"], job["kill_at"] = reason, time.time() + self.grace_s
        self.signal(job, signal.SIGCONT)
        self.signal(job, signal.SIGTERM)

    def end(self, job: Doc, code: "int | None", reason: str) -> None:
        self.children.pop(job["id"], None)
        if job.pop("again", False):
            job.update(state="queued", hosts=[], pid=0, born=0, reason="requeued")
            return
        job.update(state="done", exit=code, reason=reason, ended=time.time())

    def signal(self, job: Doc, number: int) -> None:
        """To every process of the job's session; one that left it (setsid) is not found."""
        if not job["pid"]:
            return
        for name in os.listdir("/proc"):
            if name.isdigit() and session(int(name)) == job["pid"]:
                try:
                    os.kill(int(name), number)
                except OSError:
                    pass

    # -- disk

    def load(self) -> None:
        try:
            with open("queue.json") as file:
                doc = json.load(file)
                self.jobs, self.next = doc["jobs"], doc["next"]
        except FileNotFoundError:
            return
        for job in self.jobs.values():  # the site may have grown smaller meanwhile
            fault = self.impossible(job) if job["state"] in ("queued", "held") else ""
            if fault:
                self.end(job, None, fault)

    def save(self) -> None:
        """The queue is on disk before a submission is answered."""
        with open("queue.tmp", "w", opener=private) as file:
            json.dump({"jobs": self.jobs, "next": self.next}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace("queue.tmp", "queue.json")
        self.dirty, self.trouble = False, ""


# Verb -> (the state it is for, the state it leads to, why).
VERBS = {
    "hold": ("queued", "held", "held by its user"),
    "release": ("held", "queued", ""),
    "suspend": ("running", "suspended", ""),
    "resume": ("suspended", "running", ""),
    "requeue": ("running", "running", ""),
}


def named(nodes: str) -> list[str]:
    """The nodes in the order in which they are filled: as many as asked for, or as listed."""
    if nodes.isdigit():
        return [f"node{n:02d}" for n in range(1, int(nodes) + 1)]
    return nodes.split(",")


def may_use(job: Doc, node: str) -> bool:
    return node not in job["exclude"] and (not job["pinned"] or node in job["pinned"])


def private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def fields(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def session(pid: int) -> int:
    """The session a process belongs to (proc(5), field 6)."""
    found = fields(pid)
    return int(found[3]) if found and found[0] != "Z" else -1


def born(pid: int) -> int:
    """A process's start time in clock ticks; 0 when it is gone or a zombie."""
    found = fields(pid)
    return int(found[19]) if found and found[0] != "Z" else 0


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    _cores, _memory_mib = (int(word) for word in sys.argv[3:5])
    sys.exit(Server(named(sys.argv[2]), _cores, _memory_mib, float(sys.argv[5])).serve())
