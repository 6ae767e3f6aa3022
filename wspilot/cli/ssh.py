"""`wspilot ssh VM`: the system's ssh, led to the guest through its pilot's live channel.

ssh itself encrypts, and checks the guest's host key: the one that was made before the VM was. Only
where a guest was never told its key (`context = "none"`) the first answer is trusted.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wspilot import channel
from wspilot.cli.link import Link, open_link, reach
from wspilot.cli.parse import Args
from wspilot.cli.verbs import home_of
from wspilot.errors import WspilotError

CHUNK = 1 << 15
SEEN = "ssh_known_hosts"  # in the home: keys that guests showed first


def ssh(args: Args) -> int:
    """Returns ssh's exit code."""
    home = home_of(args)
    where = reach(home, args.id)
    if args.json:
        print(json.dumps({"schema": 1, "reach": where}))
        return 0
    program = shutil.which("ssh")
    if program is None:
        raise WspilotError("there is no ssh here", "install one: openssh-client")
    words = args.args[1:] if args.args[:1] == ["--"] else args.args
    with _known(home, where) as options:
        argv = [program, *ssh_argv(home, where, args.port, args.login, options), *words]
        before = {
            number: signal.signal(number, signal.SIG_IGN)
            for number in (signal.SIGINT, signal.SIGQUIT)
        }  # ssh's to deal with
        try:
            code = subprocess.run(argv, preexec_fn=_defaults).returncode
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _defaults() -> None:
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def ssh_argv(
    home: Path, where: Mapping[str, Any], port: int, login: str, known: list[str]
) -> list[str]:
    """ssh's options and the host, for any `~/.ssh/config`: `Host wspilot.*` may say more."""
    proxy = [sys.executable, "-m", "wspilot", "--home", str(home), "_forward", where["id"],
             str(port)]  # fmt: skip
    return [
        *("-o", f"ProxyCommand={shlex.join(proxy).replace('%', '%%')}"),
        *("-o", f"HostKeyAlias={where['id']}"),
        *("-o", "CheckHostIP=no"),
        *known,
        *("-l", login),
        f"wspilot.{where['name'].replace('/', '.')}",
    ]


@contextlib.contextmanager
def _known(home: Path, where: Mapping[str, Any]) -> Iterator[list[str]]:
    """The options by which the guest's key is checked."""
    if not where["host_key"]:
        yield _options(home / SEEN, "accept-new")
        return
    with tempfile.NamedTemporaryFile("w", prefix="wspilot-known-", suffix=".hosts") as file:
        file.write(f"{where['id']} {where['host_key']}\n")
        file.flush()
        yield _options(Path(file.name), "yes")


def _options(file: Path, strict: str) -> list[str]:
    path = str(file).replace("%", "%%")
    return [
        *("-o", f'UserKnownHostsFile="{path}"'),
        *("-o", "GlobalKnownHostsFile=/dev/null"),
        *("-o", f"StrictHostKeyChecking={strict}"),
        *("-o", "HostKeyAlgorithms=ssh-ed25519" if strict == "yes" else "UpdateHostKeys=no"),
    ]


def forward(args: Args) -> int:
    """ssh's ProxyCommand: stdin and stdout are a connection to a port of a guest."""
    where = reach(home_of(args), args.id)
    wish = {"do": "forward", "vm": where["id"], "port": args.port}
    link, _, first = open_link(where, wish)
    try:
        heard = _carry(link, first)
    except (OSError, EOFError):
        return 1
    finally:
        link.close()
    if not heard:  # a server of ssh speaks first; ssh itself would only say that it was hung up on
        raise WspilotError(
            f"{where['name']}: nothing answers on port {args.port} of the guest",
            "an ssh server has to run in its image (the small guest of `python -m wspilot.guest` "
            f"has none); without one: wspilot console {where['name']}",
        )
    return 0


def _carry(link: Link, frames: list[tuple[int, bytes]]) -> bool:
    """Until the guest's side has ended: ssh is then told by the end of our stdout.

    Returns whether the guest said anything. Raises OSError or EOFError when the pilot is gone.
    """
    readers: list[Any] = [0, link]
    heard = False
    while True:
        heard = heard or any(kind == channel.DATA for kind, _ in frames)
        if not _give(frames):
            return heard
        ready, _, _ = select.select(readers, [], [])
        if 0 in ready:
            data = os.read(0, CHUNK)
            link.send(channel.DATA if data else channel.END, data)
            readers = readers if data else [link]
        frames = link.receive() if link in ready else []


def _give(frames: list[tuple[int, bytes]]) -> bool:
    """Write what came; False at its end."""
    for kind, payload in frames:
        if kind in (channel.END, channel.OVER):
            return False
        while payload:
            payload = payload[os.write(1, payload) :]
    return True
