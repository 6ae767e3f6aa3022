"""`wspilot console VM`: a guest's serial console in this terminal, by the live channel."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Iterable
from typing import Any

from wspilot import channel
from wspilot.cli.link import Link, open_link, reach
from wspilot.cli.parse import Args
from wspilot.cli.terminal import Ended, Window, raw
from wspilot.cli.verbs import home_of
from wspilot.errors import UsageError
from wspilot.text import clean

DETACH = b"\x1d"  # Ctrl-]
KEY = "Ctrl-]"
UNSHOWN = 1 << 16  # bytes; with more the pilot is not read from
UNSENT = 1 << 16  # bytes; with more what is typed is dropped, for the guest does not read
BELL = b"\a"


def console(args: Args) -> int:
    """The exit code: 0 after a detach, or when the VM ended in order."""
    where = reach(home_of(args), args.id)
    if args.json:
        print(json.dumps({"schema": 1, "reach": where}))
        return 0
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("a console needs a terminal", f"without one: wspilot logs {args.id}")
    link, answer, first = open_link(where, {"do": "console", "vm": where["id"]})
    others = answer.get("others")
    also = f"; {others} more are connected" if isinstance(others, int) and others else ""
    try:
        with raw() as window:  # from here on no key but ours means anything to us
            banner = f"console of {clean(where['name'])} on {clean(where['node'])}; {KEY} leaves it"
            print(f"{banner}{also}", end="\r\n", file=sys.stderr, flush=True)
            why = Session(link, window).run(first)
    except Ended as ended:
        return 128 + ended.number
    finally:
        link.close()
    print(f"left the console of {clean(where['name'])}: {why}", file=sys.stderr)
    return 0


class Session:
    """From the connection to the detach. The keyboard comes first, whatever the guest prints."""

    def __init__(self, link: Link, window: Window) -> None:
        self._link, self._window = link, window
        self._shown, self._unsent = bytearray(), bytearray()
        self._why = ""

    def run(self, first: Iterable[tuple[int, bytes]]) -> str:
        """Returns why it ended."""
        self._take(first)
        while not self._why or self._shown:
            readers: list[Any] = [self._window.stdin]
            if not self._why and len(self._shown) < UNSHOWN:
                readers.append(self._link)
            writers: list[Any] = [self._window.out] if self._shown else []
            if self._unsent and not self._why:
                writers.append(self._link)
            ready, writable, _ = select.select(readers, writers, [])
            if self._window.stdin in ready and self._typed():
                return "detached"
            if self._link in writable:
                self._send()
            if self._window.out in writable:
                del self._shown[: self._window.write(bytes(self._shown[:4096]))]
            if self._link in ready:
                self._receive()
        return self._why

    def _typed(self) -> bool:
        """True when the user has had enough."""
        try:
            data = os.read(self._window.stdin, 4096)
        except OSError:
            data = b""
        before, detach, _ = data.partition(DETACH)
        if before and len(self._unsent) < UNSENT:
            self._unsent += self._link.seal(before)
            self._send()
        elif before:
            self._shown += BELL
        return bool(detach) or not data

    def _send(self) -> None:
        if not self._why:
            try:
                del self._unsent[: self._link.send_some(bytes(self._unsent))]
            except OSError as error:
                self._why = f"the node is gone: {error.strerror}"

    def _receive(self) -> None:
        try:
            self._take(self._link.receive())
        except EOFError:
            self._why = self._why or "the pilot has hung up"
        except channel.BadChannel as error:
            self._why = f"the connection was tampered with: {error}"
        except OSError as error:
            self._why = f"the node is gone: {error.strerror}"

    def _take(self, frames: Iterable[tuple[int, bytes]]) -> None:
        for kind, payload in frames:
            if kind == channel.DATA:
                self._shown += payload
            elif kind == channel.OVER:
                self._why = self._why or clean(payload, 200) or "the pilot has hung up"
