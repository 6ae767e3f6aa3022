"""What deserves a bell: a lease became active, is about to end, or ended badly. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from wspilot.tui.live import LiveModel
from wspilot.tui.words import NOW_S, SOON_S, brief, seconds_of


@dataclass(frozen=True)
class Notice:
    """One of them; `level` as of events."""

    text: str
    level: str = "info"


class Watch:
    """Remembers what was seen, so that everything is told once. The first look tells nothing new,
    only what is about to end."""

    def __init__(self) -> None:
        self._states: dict[str, str] | None = None
        self._warned: dict[str, float] = {}

    def look(self, model: LiveModel, now: float) -> list[Notice]:
        """What is new since the last look."""
        spaces = model.items["workspaces"]
        old, found = self._states, []
        for id, ws in spaces.items():
            if old is not None and old.get(id) != ws["state"]:
                found += _turned(ws["name"], ws)
            found += self._ending(id, ws, now)
        self._states = {id: ws["state"] for id, ws in spaces.items()}
        self._warned = {id: at for id, at in self._warned.items() if id in spaces}
        return found

    def _ending(self, id: str, ws: dict[str, object], now: float) -> list[Notice]:
        ends = seconds_of(str(ws["ends"] or ""))
        if not ends or ws["wanted"] != "active":
            return []
        left = ends - now
        limit = next((one for one in (NOW_S, SOON_S) if 0 < left <= one), None)
        if limit is None or self._warned.get(id, SOON_S + 1) <= limit:
            if left > SOON_S:
                self._warned.pop(id, None)  # it was extended: it is told again
            return []
        self._warned[id] = limit
        return [Notice(f"{ws['name']} ends in {brief(left)}: x extends it", "warning")]


def _turned(name: str, ws: dict[str, object]) -> list[Notice]:
    if ws["state"] == "active":
        return [Notice(f"{name} is active")]
    if ws["state"] in ("failed", "degraded"):
        return [Notice(f"{name} is {ws['state']}: {ws['cause']}", "warning")]
    if ws["state"] == "ended" and ws["outcome"] in ("failed", "preempted", "abandoned"):
        return [Notice(f"{name} has ended, {ws['outcome']}: {ws['cause']}", "error")]
    if ws["state"] == "ended" and ws["outcome"] == "ok":
        return [Notice(f"{name} has ended: its time was over")]
    return []
