"""Nodes with nothing but their image caches, and sources that count what is read from them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.server
import os
import ssl
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wspilot.node import journal
from wspilot.node.core.settings import Settings
from wspilot.node.images import Images
from wspilot.node.network.way import Ground
from wspilot.node.places import Places

KEY = "ab" * 32


def ground(top: Path, node: str, key: str = KEY, **images: Any) -> Ground:
    """What a pilot stands on, below `top`."""
    for name in ("run", "keep"):
        (top / name).mkdir(parents=True, exist_ok=True)
    places = Places(node, os.getuid(), top / "run", top / "keep")
    places.make(places.keep)
    settings = Settings(
        "slot0001", 60.0, 600.0, {}, vmm="qemu", workspace_key=key, images=dict(images)
    )
    pilot = os.urandom(16).hex()
    log = journal.create(places.journal("slot0001", pilot), {"boot": "b"})
    return Ground(settings, node, places, log, top / "run")


class Nodes:
    """`count` nodes of one workspace, each with a cache of its own, that know each other."""

    def __init__(self, top: Path, count: int, key: str = KEY, **images: Any) -> None:
        grounds = [ground(top / f"n{n}", f"n{n}", key, **images) for n in range(count)]
        self.all = [Images(one) for one in grounds]
        self.journals = [one.journal for one in grounds]
        self.peers: dict[str, Any] = {}
        for one, images_ in zip(grounds, self.all):
            self.peers[one.node] = dict(images_.facts())
            if "cache" in self.peers[one.node]:
                self.peers[one.node]["cache"]["host"] = "127.0.0.1"

    async def propagate(self, image: Mapping[str, Any]) -> list[Any]:
        """To all at once; results, or what was raised."""
        for one in self.all:
            one.peers(self.peers)
        work = (one.propagate("vm1", image, lambda done: None) for one in self.all)
        return await asyncio.gather(*work, return_exceptions=True)

    async def close(self) -> None:
        for one in self.all:
            await one.close()
        for log in self.journals:
            assert dict(log.entries) == {}, "whatever was begun has been undone"
            log.close()


def disk(path: Path, mib: float = 3.0) -> bytes:
    """A raw disk of noise; its bytes."""
    data = os.urandom(int(mib * (1 << 20)) // 512 * 512)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return data


def image(where: str, data: bytes, form: str = "raw", **more: Any) -> dict[str, Any]:
    """As a `create` command has it, with one disk."""
    kind = "path" if where.startswith("/") else "url"
    one = {kind: where, "name": "d", "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    return {"name": "i", "kind": "disk", "disk": where, "format": form, "files": {"disk": one},
            **more}  # fmt: skip


class Web:
    """A web server that counts the bytes it sends. `pace_s`: it rests so long for each 256 KiB.

    With `tls` it speaks https.
    """

    def __init__(
        self, files: Mapping[str, bytes], pace_s: float = 0.0, tls: ssl.SSLContext | None = None
    ) -> None:
        self.sent, self.lock, self.pace_s = 0, threading.Lock(), pace_s
        self.requests: list[str] = []
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_GET(self) -> None:
                web.requests.append(f"{self.path} {self.headers.get('Range', '')}".strip())
                data = files.get(self.path)
                if data is None:
                    self.send_error(404)
                    return
                start = self.headers.get("Range", "bytes=0-")[6:-1]
                self.send_response(206 if "Range" in self.headers else 200)
                self.end_headers()
                with contextlib.suppress(OSError):
                    for at in range(int(start), len(data), 1 << 18):
                        with web.lock:
                            web.sent += len(data[at : at + (1 << 18)])
                        self.wfile.write(data[at : at + (1 << 18)])
                        threading.Event().wait(web.pace_s)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Web:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that stands still meanwhile."""
    import signal

    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
