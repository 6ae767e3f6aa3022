"""The interface in a browser: with its link once, and for nobody else."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.tui.browser import browser
from wspilot.errors import Refused
from wspilot.tui import web


class Served:
    """`wspilot tui --web --demo` as a process of its own."""

    def __init__(self, place: Path, *words: str, allow: bool = True) -> None:
        config = place / "site.toml"
        config.write_text(f"[site]\nallow_web = {str(allow).lower()}\n")
        env = {**os.environ, "WSPILOT_CONFIG": str(config), "WSPILOT_HOME": str(place / "home"),
               "XDG_CONFIG_HOME": str(place), "PYTHONUNBUFFERED": "1"}  # fmt: skip
        argv = [sys.executable, "-m", "wspilot", "tui", "--web", "--demo", *words]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        stdin=subprocess.DEVNULL, env=env, text=True,
                                        start_new_session=True)  # fmt: skip
        assert self.process.stdout is not None
        hang = threading.Timer(60, self.process.kill)  # what says nothing is ended: reading ends
        hang.start()
        first = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/open/\S+", first)
        self.url = found[0] if found else ""
        self.said = first if found else first + self.process.stdout.read()
        hang.cancel()
        self.origin = self.url.partition("/open/")[0]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=60)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)

    def children(self) -> list[int]:
        """Programs that were started for visitors."""
        out = subprocess.run(["ps", "-o", "pid=", "-g", str(self.process.pid)],
                             capture_output=True, text=True, timeout=60)  # fmt: skip
        return [int(word) for word in out.stdout.split() if int(word) != self.process.pid]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    made.close()


async def test_a_browser_with_the_link_sees_the_site_and_may_only_look(
    served: Served, tmp_path: Path
) -> None:
    async with browser(tmp_path) as chrome:
        await chrome.open(served.url)
        await chrome.until(b"night-run")
        assert b"read-only" in chrome.received
        assert not any("googleapis" in one and "blockedReason" not in one for one in chrome.failed)
        await chrome.press("4", b"WHAT")
        chrome.received = b""
        await chrome.type("n2")  # the second key's answer comes after the first one's
        await chrome.until(b"LRM SAYS")
        assert b"Build an ensemble" not in chrome.received
        await chrome.picture(tmp_path / "seen.png")
        assert (tmp_path / "seen.png").stat().st_size > 5000
        again = await chrome.open(served.url)
        assert "has been used" in again
    deadline = time.monotonic() + 60
    while served.children():
        assert time.monotonic() < deadline, "what was started for the visitor is still there"
        await asyncio.sleep(0.2)


async def test_a_browser_without_the_link_gets_nothing(served: Served, tmp_path: Path) -> None:
    async with browser(tmp_path) as chrome:
        for path in ("/", "/ws", "/static/js/textual.js", "/open/wrong", "/download/x"):
            assert "night-run" not in await chrome.open(served.origin + path)
        assert not served.children() and b"night-run" not in chrome.received


async def test_every_path_is_gated_and_origin_and_host_are_checked(served: Served) -> None:
    async with aiohttp.ClientSession() as session:

        async def status(path: str, **headers: str) -> int:
            url = served.origin + path
            async with session.get(url, headers=headers, allow_redirects=False) as answer:
                return answer.status

        paths = ("/", "/ws", "/download/1", "/static/", "/static/js/textual.js")
        assert {await status(path) for path in paths} == {403}
        assert await status("/open/" + "x" * 43) == 403
        token = served.url.removeprefix(served.origin)
        assert await status(token, Host="evil.example") == 403
        async with session.get(served.url, allow_redirects=False) as answer:
            assert answer.status == 303
            secret = answer.headers["Location"].rstrip("/")
            cookie = answer.headers["Set-Cookie"]
            assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and secret in cookie
        value = cookie.split(";")[0]
        assert await status(token) == 403  # once
        bare = aiohttp.ClientSession()
        async with bare:
            for path in (secret + one for one in paths):  # the secret path alone is not enough
                async with bare.get(served.origin + path) as answer:
                    assert answer.status == 403
            for origin in (None, "http://evil.example", "http://127.0.0.1:1"):
                headers = {"Cookie": value, **({"Origin": origin} if origin else {})}
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await bare.ws_connect(f"{served.origin}{secret}/ws", headers=headers)
                assert refused.value.status == 403
        assert not served.children()
        assert await status(secret + "/", Cookie=value) == 200
        assert await status(secret + "/static/css/xterm.css", Cookie=value) == 200
        assert await status("/", Cookie=value) == 404  # and the cookie alone leads nowhere


def test_a_site_that_does_not_allow_it_refuses(tmp_path: Path) -> None:
    made = Served(tmp_path, allow=False)
    made.close()
    assert made.process.returncode == 5 and "allow_web" in made.said and not made.url


def test_without_textual_serve_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "textual_serve.server", None)
    with pytest.raises(Exception, match="not installed") as error:
        web.serve(Path("nowhere"), [])
    assert error.value.code == 2  # type: ignore[attr-defined]


def test_the_running_daemons_word_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, refused in (({"allow_web": True}, False), ({"allow_web": "yes"}, True), ({}, True)):
        monkeypatch.setattr(web, "call", lambda *_, said=said: {"config": said})
        if refused:
            with pytest.raises(Refused):
                web.check_allowed(Path("home"))
        else:
            web.check_allowed(Path("home"))
