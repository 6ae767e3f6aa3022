"""Pictures of the screens for README, made again by `make screens`.

The demo's site stands still at one moment, so that a picture changes only where a screen does.
"""

from __future__ import annotations

import asyncio
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wspilot.tui.app import WspilotApp
from wspilot.tui.demo import DemoSource

if TYPE_CHECKING:
    from textual.app import App
    from textual.pilot import Pilot

NOW = 1_778_596_330.0  # 2026-05-12 14:32:10 UTC
STILL_S, REST_S, MOST_LOOKS = 10 * 86400.0, 0.4, 100
WIDE = (132, 40)
# Workers that end by themselves, and soon.
ENDING = ("check", "offer", "look", "send", "--textual-command-palette-gather-commands")


@dataclass(frozen=True)
class Shot:
    """One picture: its file, the keys that lead there, the terminal, the theme."""

    name: str
    keys: tuple[str, ...] = ()
    size: tuple[int, int] = WIDE
    theme: str = "night"


SHOTS = (
    Shot("main"),
    Shot("detail", (*["down"] * 4, "enter"), (110, 34)),
    Shot("slots", ("2",)),
    Shot("nodes", ("3",)),
    Shot("events", ("4",)),
    Shot("timeline", ("5",)),
    Shot("builder", ("n", "f7", "down", "down", "down", "enter")),
    Shot("help", ("question_mark",), (140, 44)),
    Shot("light-80x24", ("down", "down"), (80, 24), "day"),
)


async def picture(shot: Shot) -> str:
    """The screen as SVG."""
    app = WspilotApp(DemoSource(STILL_S, lambda: NOW), clock=lambda: NOW)
    async with app.run_test(size=shot.size) as pilot:
        app.theme = shot.theme
        await _rest(pilot)
        for key in shot.keys:
            await pilot.press(key)
            await _rest(pilot)
        return narrowed(app.export_screenshot(title="wspilot tui --demo", simplify=True))


def busy(app: App[Any]) -> str:
    """What will still change the screen by itself; empty for nothing."""
    if (
        isinstance(app, WspilotApp)
        and app.main.dirty
        and app.main.is_current
        and not app.main.paused
    ):
        return "the main screen is not drawn"
    working = [one for one in app.workers if one.is_running and one.group in ENDING]
    return f"workers: {working}" if working else ""


async def _rest(pilot: Pilot[None]) -> None:
    """Until nothing is left to do and two looks see the same."""
    seen = ""
    for _ in range(MOST_LOOKS):
        await pilot.pause(REST_S)
        before, seen = seen, pilot.app.export_screenshot()
        if seen == before and not busy(pilot.app):
            return
    raise RuntimeError("the screen never stands still")


def narrowed(svg: str) -> str:
    """A quarter as large, and to look at the same: without fonts of strangers' hosts, without clips
    for every line, neighbours of one ground as one, spaces as one character."""
    svg = re.sub(r"@font-face \{[^}]*\}\s*", "", svg)
    svg = re.sub(r'<clipPath id="[\w-]+-line-\d+">.*?</clipPath>\s*', "", svg, flags=re.DOTALL)
    svg = re.sub(r' clip-path="url\(#[\w-]+-line-\d+\)"', "", svg).replace("&#160;", "\xa0")
    return _RUN.sub(_one_ground, svg)


_SIZE = r'width="[\d.]+" height="[\d.]+" shape-rendering="crispEdges"/>'
_RUN = re.compile(
    rf'<rect fill="(#\w+)" x="[\d.]+" y="([\d.]+)" {_SIZE}'
    rf'(?:<rect fill="\1" x="[\d.]+" y="\2" {_SIZE})+'
)


def _one_ground(run: re.Match[str]) -> str:
    """Rectangles of one line and colour as one, where no gap is between them."""
    first = re.match(r"<[^>]*>", run[0])
    starts = [float(one) for one in re.findall(r' x="([\d.]+)"', run[0])]
    widths = [float(one) for one in re.findall(r' width="([\d.]+)"', run[0])]
    whole = starts[-1] + widths[-1] - starts[0]
    if first is None or abs(whole - sum(widths)) > 1:
        return run[0]
    return re.sub(r'(?<= width=")[\d.]+', f"{whole:g}", first[0])


def main(argv: list[str]) -> int:
    """Write every picture into a directory."""
    if len(argv) != 1:
        sys.stderr.write("usage: make screens   (python -m wspilot.tui.shots DIRECTORY)\n")
        return 2
    place = Path(argv[0])
    place.mkdir(parents=True, exist_ok=True)
    for shot in SHOTS:
        path = place / f"{shot.name}.svg"
        path.write_text(asyncio.run(picture(shot)), "utf-8")
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
