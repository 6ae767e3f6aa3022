"""The built-in batch system: one small process, a queue on disk, nodes that are only names.

    python local_lrm.py DIR NODES CORES MEMORY_MIB GRACE_S VERB [JSON]

A verb connects to the server of DIR, starting it where there is none, and prints its answer as
JSON. First in, first out; cores and memory are counted; a job's session gets SIGTERM at its
walltime or when it is cancelled, SIGKILL after the grace. The server survives its users, ends 2 s
after its last job, and finds its running jobs again when it was killed. Standard library only,
and nothing that the verbs (20 ms each) do not need is imported at the top.
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
SHUTDOWN_WAIT_S = 5.0
OPEN = ("queued", "held", "running", "suspended")


def main(argv: list[str]) -> int:
    """Returns the exit code: 0 done, 1 refused (the reason is on stderr), 2 usage."""
    if len(argv) >= 2 and argv[0] == "spread":
        return spread(argv[1:])
    if len(argv) not in (6, 7):
        print(__doc__, file=sys.stderr)
        return 2
    place, verb = os.path.abspath(argv[0]), argv[5]
    body = json.loads(argv[6]) if len(argv) == 7 else {}
    os.makedirs(place, mode=0o700, exist_ok=True)
    os.chdir(place)  # sockets have a limit of 107 bytes: the name is relative
    if verb == "serve":
        return Server(*(int(float(word)) for word in argv[1:5])).serve()
    answer = ask({"verb": verb, **body}, argv[:5])
    if "error" in answer:
        print(answer["error"], file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0


# -- a verb


def ask(request: Doc, serve_argv: list[str]) -> Doc:
    """One request to the server of the current directory, started where there is none."""
    deadline = time.monotonic() + 15
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as link:
                link.settimeout(10)
                link.connect("lrm.sock")
                link.sendall(json.dumps(request).encode() + b"\n")
                data = b""
                while not data.endswith(b"\n"):
                    part = link.recv(65536)
                    if not part:
                        raise ConnectionResetError("the server ended in mid-answer")
                    data += part
                answer: Doc = json.loads(data)
                return answer
        except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError):
            if time.monotonic() > deadline:
                return {"error": "the built-in batch system does not start: see server.log"}
            start_server(serve_argv)
            time.sleep(0.02)


def start_server(serve_argv: list[str]) -> None:
    """Fork twice into a server of its own session; two at once are settled by its lock."""
    if os.fork():
        os.wait()
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    log = os.open("server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, 1024)
    python = [sys.executable, "-I", os.path.abspath(__file__)]
    os.execv(sys.executable, [*python, *serve_argv, "serve"])


def spread(argv: list[str]) -> int:
    """Run `argv` once on every node of the job, in the job's session; the worst exit code."""
    import subprocess

    nodes = os.environ["WSPILOT_LOCAL_NODES"].split(",")
    children = [subprocess.Popen(argv, env={**os.environ, "WSPILOT_NODE": node}) for node in nodes]
    import signal

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # the session's members get it themselves
    return max(abs(child.wait()) for child in children)


# -- the server


class Server:
    """The queue and its processes. One thread; everything it must not forget is in queue.json."""

    def __init__(self, nodes: int, cores: int, memory_mib: int, grace_s: float) -> None:
        self.nodes = [f"node{n:02d}" for n in range(1, nodes + 1)]
        self.cores, self.memory_mib, self.grace_s = cores, memory_mib, grace_s
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.jobs: dict[str, Doc] = {}
        self.next = 1
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
                request = json.loads(data)
                reply = getattr(self, "do_" + str(request.pop("verb")))(**request)
            except (ValueError, TypeError, AttributeError, KeyError) as error:
                reply = {"error": f"bad request: {error}"}
            except OSError:
                return
            self.idle_since = time.monotonic()
            try:
                link.sendall(json.dumps(reply).encode() + b"\n")
            except OSError:
                pass

    # -- verbs

    def do_submit(self, **wanted: Any) -> Doc:
        fault = self.impossible(wanted)
        if fault:
            return {"error": fault}
        id = str(self.next)
        self.next += 1
        self.jobs[id] = {"id": id, "state": "queued", "submitted": time.time(), "hosts": [],
                         "pid": 0, "born": 0, "exit": None, "reason": "", **wanted}  # fmt: skip
        self.save()
        self.step()
        return {"id": id}

    def impossible(self, wanted: Doc) -> str:
        """Why a job could never run here; empty when it can."""
        if wanted["nodes"] > len(self.nodes):
            return f"{wanted['nodes']} nodes are more than the {len(self.nodes)} there are"
        if wanted["ppn"] > self.cores:
            return f"{wanted['ppn']} cores a node are more than the {self.cores} there are"
        if wanted["memory_mib"] > self.memory_mib:
            return f"{wanted['memory_mib']} MiB a node are more than {self.memory_mib}"
        return ""

    def do_list(self) -> Doc:
        keep = ("id", "name", "owner", "state", "hosts", "exit", "reason")
        return {"jobs": [{key: job[key] for key in keep} for job in self.jobs.values()]}

    def do_cancel(self, id: str) -> Doc:
        job = self.jobs.get(id)
        if job is None or job["state"] == "done":
            return {"gone": True}
        if job["state"] in ("queued", "held"):
            self.end(job, None, "cancelled")
        else:
            self.terminate(job, "cancelled")
        self.save()
        return {"gone": False}

    def do_hold(self, id: str) -> Doc:
        return self.move(id, "queued", "held", "held by its user")

    def do_release(self, id: str) -> Doc:
        return self.move(id, "held", "queued", "")

    def do_suspend(self, id: str) -> Doc:
        import signal

        self.signal(self.jobs[id], signal.SIGSTOP)
        return self.move(id, "running", "suspended", "")

    def do_resume(self, id: str) -> Doc:
        import signal

        self.signal(self.jobs[id], signal.SIGCONT)
        return self.move(id, "suspended", "running", "")

    def do_requeue(self, id: str) -> Doc:
        """The operator's: kill the job and let it run again under the same id."""
        import signal

        job = self.jobs[id]
        self.signal(job, signal.SIGKILL)
        job["again"] = True
        self.save()
        return {"id": id}

    def move(self, id: str, old: str, new: str, reason: str) -> Doc:
        job = self.jobs[id]
        if job["state"] != old:
            return {"error": f"job {id} is {job['state']}"}
        job["state"], job["reason"] = new, reason
        self.save()
        return {"id": id}

    # -- time

    def step(self) -> None:
        """Reap, enforce walltime and grace, start what fits, forget what is old."""
        import signal

        now, changed = time.time(), False
        for job in list(self.jobs.values()):
            if job["state"] in ("running", "suspended"):
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
        changed = self.start_next() or changed
        if changed:
            self.save()

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
            if other["state"] in ("running", "suspended"):
                for node in other["hosts"]:
                    free[node][0] -= self.cores if other["whole_node"] else other["ppn"]
                    free[node][1] -= other["memory_mib"]
        cores = self.cores if job["whole_node"] else job["ppn"]
        fit = [
            node for node in self.nodes
            if free[node][0] >= cores and free[node][1] >= job["memory_mib"]
            and node not in job["exclude"] and (not job["pinned"] or node in job["pinned"])
        ]  # fmt: skip
        return fit[: job["nodes"]] if len(fit) >= job["nodes"] else None

    def start(self, job: Doc, hosts: list[str]) -> None:
        import subprocess

        env = {
            **os.environ,
            "WSPILOT_LOCAL_JOB": job["id"],
            "WSPILOT_LOCAL_NODES": ",".join(hosts),
            "WSPILOT_NODE": hosts[0],
        }
        job.update(state="running", hosts=hosts, started=time.time(), reason="", kill_at=None)
        try:
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
        return None if job["born"] and born(job["pid"]) == job["born"] else (None,)

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
            pass

    def save(self) -> None:
        """The queue is on disk before a submission is answered."""
        with open("queue.tmp", "w", opener=private) as file:
            json.dump({"jobs": self.jobs, "next": self.next}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace("queue.tmp", "queue.json")


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
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:
        sys.exit(1)
