"""The built-in batch system: one small process, a queue on disk, nodes that are only names.

NODES is how many there are, or their names with commas between (`[lrm.local] nodes`).

    python local_lrm.py DIR NODES CORES MEMORY_MIB GRACE_S VERB [JSON]

A verb connects to the server of DIR, starting it where there is none, and prints its answer as
JSON. First in, first out; cores and memory are counted; a job's session gets SIGTERM at its
walltime or when it is cancelled, SIGKILL after the grace. The server survives its users, ends 2 s
after its last job (its cluster is as large as its first verb said), and finds its running jobs
again when it was killed. A submission that was answered is on disk, and one that is sent twice (its
answer was lost) is one job.

Exit codes: 0 done, 2 usage, 5 refused (the reason is on stderr), 75 not done, ask again (a full
disk), anything else: it may have happened. Standard library only, and nothing that the verbs (20 ms
each) do not need is imported at the top.
"""

import json
import os
import socket
import sys
import time
from typing import Any

Doc = dict[str, Any]
REFUSED, UNCLEAR, LATER = 5, 3, 75
SERVER = "local_queue.py"


def main(argv: list[str]) -> int:
    """One verb. Returns the exit code."""
    if len(argv) not in (6, 7):
        print(__doc__, file=sys.stderr)
        return 2
    place, verb = os.path.abspath(argv[0]), argv[5]
    body = json.loads(argv[6]) if len(argv) == 7 else {}
    os.makedirs(place, mode=0o700, exist_ok=True)
    os.chdir(place)  # sockets have a limit of 107 bytes: the name is relative
    try:
        answer = ask({"verb": verb, "token": os.urandom(8).hex(), **body}, [place, *argv[1:5]])
    except OSError as error:
        print(f"no answer of the built-in batch system: {error}", file=sys.stderr)
        return UNCLEAR
    if "error" in answer:
        print(answer["error"], file=sys.stderr)
        return LATER if answer.get("later") else REFUSED
    print(json.dumps(answer))
    return 0


# -- a verb


def ask(request: Doc, serve_argv: list[str]) -> Doc:
    """One request to the server of the current directory, started where there is none.

    Sent again when the server ended in the middle: the token makes that one submission. Raises
    OSError when there is no answer.
    """
    deadline, start_at = time.monotonic() + 15, 0.0
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
        except (FileNotFoundError, ConnectionError):
            if time.monotonic() > deadline:
                raise OSError(f"it does not start: see {os.getcwd()}/server.log") from None
            if time.monotonic() >= start_at:  # the one before may have been the last one's twin
                start_server(serve_argv)
                start_at = time.monotonic() + 0.5
            time.sleep(0.01)


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
    server = os.path.join(os.path.dirname(os.path.abspath(__file__)), SERVER)
    os.execv(sys.executable, [sys.executable, "-I", server, *serve_argv])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:
        sys.exit(1)
