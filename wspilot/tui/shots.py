"""Pictures of the screens for README: `python -m wspilot.tui.shots docs/screens`.

Made from the demo's site, so that anybody can make them again without a daemon.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

from wspilot.tui.app import WspilotApp
from wspilot.tui.demo import DemoSource


@dataclass(frozen=True)
class Shot:
    """One picture: its file, the terminal, the theme, and the keys that lead there."""

    name: str
    size: tuple[int, int]
    keys: tuple[str, ...] = ()
    theme: str = "night"


SHOTS = (
    Shot("main", (140, 42)),
    Shot("deploy", (110, 34), ("n", "down")),
    Shot("day-80x24", (80, 24), ("down", "down"), "day"),
)


async def picture(shot: Shot) -> str:
    """The screen as SVG, while VMs come up."""
    app = WspilotApp(DemoSource(step_s=0.4))
    async with app.run_test(size=shot.size) as pilot:
        await pilot.pause(1.2)
        app.theme = shot.theme
        await pilot.press(*shot.keys)
        await pilot.pause(0.6)
        return app.export_screenshot(title="wspilot tui --demo")


def main(argv: list[str]) -> int:
    """Write every picture into a directory."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m wspilot.tui.shots DIRECTORY\n")
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
