"""What a check says, and what all checks know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wspilot.client import call
from wspilot.errors import NoDaemon, WspilotError
from wspilot.settings import Site

CALL_S = 5.0


@dataclass(frozen=True)
class Check:
    """`verdict` is ok, warn (works, but mind this) or fail (leases will not work)."""

    name: str
    verdict: str
    text: str
    remedy: str = ""


def ok(name: str, text: str) -> Check:
    return Check(name, "ok", text)


def warn(name: str, text: str, remedy: str = "") -> Check:
    return Check(name, "warn", text, remedy)


def fail(name: str, text: str, remedy: str = "") -> Check:
    return Check(name, "fail", text, remedy)


@dataclass(frozen=True)
class Facts:
    """The site, and what a running daemon says (None: none runs; a fault in words else)."""

    site: Site
    home: Path
    status: Mapping[str, Any] | None
    nodes: tuple[Mapping[str, Any], ...] = ()
    fault: str = ""

    @classmethod
    def gather(cls, config: Path | None, home: Path) -> Facts:
        """Ask the daemon once. Its settings are the ones that count, unless `config` is given."""
        from wspilot.config import load

        status, nodes, fault = _ask(home)
        if config is None and status is not None and Path(status["site"]).is_file():
            config = Path(status["site"])
        return cls(load(config, home), home, status, nodes, fault)


def _ask(home: Path) -> tuple[Mapping[str, Any] | None, tuple[Mapping[str, Any], ...], str]:
    try:
        status = call(home, "status", {}, CALL_S)["status"]
        return status, tuple(call(home, "nodes", {}, CALL_S)["nodes"]), ""
    except NoDaemon as error:
        return None, (), error.message
    except WspilotError as error:
        return None, (), f"the daemon: {error.message}"
