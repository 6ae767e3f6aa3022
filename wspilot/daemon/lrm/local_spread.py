"""One process on every node of a job: `python local_spread.py [--via WORDS GRACE_S] ARGV...`.

Without `--via` the nodes are only names and everything runs here, in the job's session. With it
(`[lrm.local] via`, a JSON list such as ["ssh", "{node}", "{command}"]) the nodes are hosts, and
what is started there must end with the job although no signal of the job reaches it: it is told of
a TERM through its standard input, and when that ends (the job was killed, the link was lost) it
gets a TERM of its own, and a KILL when the grace is over. Standard library only; it runs as a file.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
from types import FrameType
from typing import Optional

# POSIX sh, since that is all that is known to be there: runs "$@", reads signals' names from
# descriptor 3, and takes the end of that file for a TERM. No child may hold ssh's descriptors.
FAR = """\
exec 3<&0
"$@" </dev/null 3<&- &
p=$!
(
  while read -r s <&3; do kill -"$s" "$p"; done
  kill -TERM "$p"
  sleep "$WSPILOT_GRACE" >&2
  kill -KILL "$p"
) >/dev/null 2>&1 &
r=$!
wait "$p"
c=$?
kill "$r" 2>/dev/null
exit "$c"
"""


def main(argv: list[str]) -> int:
    """The worst exit code."""
    via: list[str] = []
    grace = ""
    if argv[:1] == ["--via"]:
        via, grace, argv = json.loads(argv[1]), argv[2], argv[3:]
    children: list[subprocess.Popen[bytes]] = []

    def tell(number: int, frame: Optional[FrameType]) -> None:
        for child in children:
            if child.stdin is not None and number == signal.SIGTERM:
                try:
                    os.write(child.stdin.fileno(), b"TERM\n")
                except OSError:
                    pass  # it has ended

    # Where the nodes are names the session's members get the job's signals themselves.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, tell)
    for node in os.environ["WSPILOT_LOCAL_NODES"].split(","):
        if via:
            children.append(
                subprocess.Popen(
                    far_argv(via, node, grace, argv), stdin=subprocess.PIPE, start_new_session=True
                )
            )
        else:
            children.append(subprocess.Popen(argv, env={**os.environ, "WSPILOT_NODE": node}))
    return max(abs(child.wait()) for child in children)


def far_argv(via: list[str], node: str, grace: str, argv: list[str]) -> list[str]:
    """What starts `argv` on a node: `{command}` is the command as one word for a shell, as ssh
    wants it; where no word has it the command is appended as it is."""
    told = [
        f"{name}={value}"
        for name, value in (
            ("WSPILOT_NODE", node),
            ("WSPILOT_LOCAL_JOB", os.environ.get("WSPILOT_LOCAL_JOB", "")),
            ("WSPILOT_GRACE", grace),
        )
    ]
    command = ["env", *told, "sh", "-c", FAR, "wspilot", *argv]
    quoted = shlex.join(command)
    words = [word.replace("{node}", node) for word in via]
    if any("{command}" in word for word in words):
        return [word.replace("{command}", quoted) for word in words]
    return [*words, *command]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
