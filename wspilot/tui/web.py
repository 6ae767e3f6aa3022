"""`wspilot tui --web`: the interface in a browser on this host, through textual-serve.

textual-serve knows neither authentication nor origins, and starts the program for whoever asks. So
it stands behind a gate: loopback only; a token that opens once; from then on every request (page,
websocket, download, static file) needs a secret path *and* a cookie, because cookies are shared by
all ports of a host and paths show in histories; the websocket's Origin and every Host are checked.
"""

from __future__ import annotations

import hmac
import secrets
import shlex
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from wspilot.client import call
from wspilot.errors import NoDaemon, Refused, UsageError

HOST = "127.0.0.1"
COOKIE = "wspilot_web"
SHUTDOWN_S = 2.0
Handler = Callable[[Any], Awaitable[Any]]


def check_allowed(home: Path) -> None:
    """Raises Refused where the site has not said `allow_web`. The daemon's settings count; without
    one those that it would start with."""
    try:
        allowed = call(home, "config", {})["config"].get("allow_web", False)
    except NoDaemon:
        from wspilot.config import load

        allowed = load(None, home).allow_web
    if allowed is not True:
        raise Refused("this site does not allow the interface in a browser",
                      "its [site] allow_web = true would")  # fmt: skip


class Gate:
    """Who may come in. Pure but for its secrets; `port` is known when it listens."""

    def __init__(self, port: int) -> None:
        self.origin = f"http://{HOST}:{port}"
        self._host = f"{HOST}:{port}"
        self._token: str | None = secrets.token_urlsafe(32)
        self.path = f"/{secrets.token_urlsafe(16)}"
        self._cookie = secrets.token_urlsafe(32)

    @property
    def url(self) -> str:
        """What opens it, once."""
        return f"{self.origin}/open/{self._token}"

    def opens(self, token: str) -> str | None:
        """The cookie's value for the right token, the first time."""
        right = self._token is not None and same(token, self._token)
        if not right:
            return None
        self._token = None
        return self._cookie

    def refuses(self, host: str, origin: str | None, cookie: str, upgrade: bool) -> str:
        """Why a request is refused; empty: it may pass."""
        if host != self._host:
            return "another host name"
        if origin is not None and origin != self.origin:
            return "another origin"
        if upgrade and origin is None:
            return "a websocket without an origin"
        return "" if same(cookie, self._cookie) else "no session: open the link once more"


def same(one: str, other: str) -> bool:
    """Compared in constant time; any text."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def serve(home: Path, words: Sequence[str], port: int = 0, write: bool = False) -> int:
    """Serve until Ctrl-C. `words`: further options of `wspilot tui`. Raises UsageError, Refused."""
    try:
        from aiohttp import web
        from textual_serve.server import Server
    except ImportError:
        raise UsageError("tui --web needs textual-serve, which is not installed",
                         "pip install 'wspilot[web]'") from None  # fmt: skip
    check_allowed(home)
    link = _listen(port)
    gate = Gate(link.getsockname()[1])
    mode = [] if write else ["--read-only"]
    command = [sys.executable, "-m", "wspilot", "--home", str(home), "tui", *mode, *words]
    server = Server(shlex.join(command), HOST, link.getsockname()[1], "wspilot", gate.origin)
    print(f"open once, within this session: {gate.url}", flush=True)
    print("read-only" if not write else "NOT read-only: whoever opens it acts as you", flush=True)
    web.run_app(make_app(server, gate), sock=link, shutdown_timeout=SHUTDOWN_S, print=None,
                access_log=None)  # fmt: skip
    return 0


def _listen(port: int) -> socket.socket:
    link = socket.socket()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        link.bind((HOST, port))
        link.listen()  # before the link is told
    except OSError as error:
        link.close()
        raise UsageError(f"port {port} on {HOST} is not free: {error.strerror}",
                         "choose another --port, or none") from None  # fmt: skip
    return link


async def make_app(server: Any, gate: Gate) -> Any:
    """textual-serve's application below the secret path, behind the gate."""
    from aiohttp import web

    inner = await server._make_app()
    inner.on_startup.clear()  # its banner names a link that does not open

    async def opened(request: Any) -> Any:
        cookie = gate.opens(request.match_info["token"])
        if cookie is None:
            raise web.HTTPForbidden(text="This link has been used, or is none. Start it again.")
        answer = web.HTTPSeeOther(f"{gate.path}/")
        answer.set_cookie(COOKIE, cookie, path=gate.path, httponly=True, samesite="Strict")
        raise answer

    @web.middleware
    async def guard(request: Any, handler: Handler) -> Any:
        headers = request.headers
        upgrade = headers.get("Upgrade", "").lower() == "websocket"
        cookie = request.cookies.get(COOKIE, "")
        why = gate.refuses(headers.get("Host", ""), headers.get("Origin"), cookie, upgrade)
        first = request.path.startswith("/open/") and why.startswith("no session")
        if why and not first:
            raise web.HTTPForbidden(text=f"Refused: {why}.")
        return await handler(request)

    async def seal(request: Any, response: Any) -> None:
        response.headers.update(_sealed(gate))

    app = web.Application(middlewares=[guard])
    app.on_response_prepare.append(seal)
    app.router.add_get("/open/{token}", opened)
    app.add_subapp(gate.path, inner)
    return app


def _sealed(gate: Gate) -> dict[str, str]:
    """Nothing from elsewhere (textual-serve's page asks a font of a third party), nothing kept."""
    socket_url = gate.origin.replace("http", "ws", 1)
    policy = ("default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' "
              f"'unsafe-inline'; img-src 'self' data:; connect-src 'self' {socket_url}; "
              "frame-ancestors 'none'")  # fmt: skip
    return {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}  # fmt: skip
