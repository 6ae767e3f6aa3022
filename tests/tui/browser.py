"""A real headless Chromium, driven by its own protocol: pages, what websockets say, pictures."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

START_S = LIMIT_S = 60.0  # only a hang takes longer


def program() -> str:
    """Raises AssertionError where there is none: without it this is not tested."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "no chromium: apt-get install --no-install-recommends chromium"
    return found


class Browser:
    """One page. `received` is the text of all websocket frames that came to it."""

    def __init__(self, link: aiohttp.ClientWebSocketResponse) -> None:
        self._link, self._last = link, 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.received = b""
        self.failed: list[str] = []
        self._task = asyncio.ensure_future(self._read())

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol."""
        id = self._last = self._last + 1
        self._answers[id] = asyncio.get_running_loop().create_future()
        await self._link.send_json({"id": id, "method": method, "params": params})
        return await asyncio.wait_for(self._answers[id], LIMIT_S)

    async def open(self, url: str) -> str:
        """Go there; the page's text when it is loaded."""
        await self.value("window.left = true")  # so that the old page is not taken for the new one
        await self.call("Page.navigate", url=url)
        deadline = time.monotonic() + LIMIT_S
        while not await self.value("!window.left && document.readyState === 'complete'"):
            assert time.monotonic() < deadline, f"{url} is not loaded"
            await asyncio.sleep(0.1)
        return str(await self.value("document.body.innerText"))

    async def value(self, expression: str) -> Any:
        """A JavaScript value of the page."""
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True)
        return answer.get("result", {}).get("value")

    async def until(self, word: bytes, seconds: float = LIMIT_S) -> None:
        """Until it has been sent to the page."""
        deadline = time.monotonic() + seconds
        while word not in self.received:
            assert time.monotonic() < deadline, f"{word!r} never came: {self.received[-2000:]!r}"
            await asyncio.sleep(0.1)

    async def press(self, key: str, word: bytes) -> None:
        """A key that may be pressed again, until the page is sent a word for it."""
        self.received = b""
        deadline = time.monotonic() + LIMIT_S
        while word not in self.received:
            assert time.monotonic() < deadline, f"{key} brought no {word!r}: {self.received!r}"
            await self.value("document.querySelector('textarea')?.focus()")
            await self.type(key)
            await asyncio.sleep(0.3)

    async def type(self, text: str) -> None:
        """Keys of ordinary letters."""
        for letter in text:
            await self.call("Input.dispatchKeyEvent", type="char", text=letter)

    async def picture(self, path: Path) -> None:
        """What a person would see."""
        shot = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))

    async def _read(self) -> None:
        async for message in self._link:
            doc = json.loads(message.data)
            if (future := self._answers.pop(doc.get("id", 0), None)) is not None:
                future.set_result(doc.get("result", {}))
            elif doc.get("method") == "Network.webSocketFrameReceived":
                frame = doc["params"]["response"]
                data = frame["payloadData"]
                self.received += base64.b64decode(data) if frame["opcode"] == 2 else data.encode()
            elif doc.get("method") == "Network.loadingFailed":
                self.failed.append(str(doc["params"]))

    async def close(self) -> None:
        self._task.cancel()
        await self._link.close()


async def _page(session: aiohttp.ClientSession, port: int) -> dict[str, Any]:
    """The first one: the port is there before it."""
    deadline = time.monotonic() + START_S
    while True:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            for one in await answer.json():
                if one["type"] == "page":
                    return dict(one)
        assert time.monotonic() < deadline, "chromium has no page"
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def browser(place: Path) -> AsyncIterator[Browser]:
    """A browser with a profile of its own; gone afterwards, with all its processes."""
    process = _start(place)
    try:
        port = await _port(place / "profile" / "DevToolsActivePort", process)
        async with aiohttp.ClientSession() as session:
            page = await _page(session, port)
            link = await session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=1 << 26)
            made = Browser(link)
            for domain in ("Page", "Network", "Runtime"):
                await made.call(f"{domain}.enable")
            yield made
            await made.close()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)


def _start(place: Path) -> subprocess.Popen[bytes]:
    argv = [program(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--remote-debugging-port=0", f"--user-data-dir={place / 'profile'}", "--no-first-run",
            "--window-size=1200,800", "about:blank"]  # fmt: skip
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(place), "XDG_CONFIG_HOME": str(place)},
        start_new_session=True,
    )


async def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + START_S
    while not (file.exists() and file.read_text().count("\n")):
        assert process.poll() is None, "chromium ended at once"
        assert time.monotonic() < deadline, "chromium does not listen"
        await asyncio.sleep(0.1)
    return int(file.read_text().split("\n")[0])
