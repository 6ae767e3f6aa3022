"""`via.py CTL USER NODE COMMAND`: a command in domain 0, as ssh runs one (`[lrm.local] via`).

Its standard input reaches the command, its output and exit code come back. Runs as a file.
"""

from __future__ import annotations

import os
import select
import shlex
import sys
import time
from pathlib import Path

POLL_S = 0.1


def main(ctl: Path, user: str, command: str) -> int:
    """The command's exit code."""
    ticket = f"via{time.time_ns()}"
    out, fifo = ctl / "out", f"/run/{ticket}"
    put(ctl, ticket, f"mkfifo {fifo}; exec 3<>{fifo}; setpriv --reuid={user} --regid={user} "
        f"--init-groups env HOME=/home/{user} bash -c {shlex.quote('cd; ' + command)} <&3 3<&-; "
        f"c=$?; rm {fifo}; exit $c")  # fmt: skip
    listens = True
    while not (out / f"{ticket}.rc").exists():
        if select.select([0] if listens else [], [], [], POLL_S)[0]:
            word = os.read(0, 4096).decode().strip()
            listens = bool(word)
            # The link's end is a TERM to what runs there.
            put(ctl, f"{ticket}-{time.time_ns()}", f"echo {shlex.quote(word or 'TERM')} >{fifo}")
    for name, fd in (("stdout", 1), ("stderr", 2)):
        os.write(fd, (out / f"{ticket}.{name}").read_bytes())
    return int((out / f"{ticket}.rc").read_text())


def put(ctl: Path, name: str, script: str) -> None:
    """One command for domain 0's agent."""
    made = ctl / "in" / f"{name}.tmp"
    made.write_text(script + "\n")
    made.rename(made.with_suffix(".cmd"))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[4]))
