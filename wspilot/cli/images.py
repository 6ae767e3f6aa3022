"""`wspilot images`, and `wspilot images add NAME FILE`: look into the repository, put one there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from wspilot.cli import render
from wspilot.cli.parse import Args
from wspilot.client import call
from wspilot.errors import NoDaemon, UsageError
from wspilot.text import parse_size


def images(args: Args) -> int:
    """Raises WspilotError."""
    from wspilot.cli.verbs import emit, home_of

    if args.act is None:
        doc = call(home_of(args), "images", {})
        return emit(args, doc, render.images(doc["images"]))
    if not args.name:
        raise UsageError("images add: which name?", "wspilot images add NAME FILE")
    from wspilot.imageadd import add

    made = add(_site(args), _wish(args), _Bar(args.json))
    count, size = len(made["sizes"]), sum(made["sizes"].values()) >> 20
    text = f"{made['name']} is in the repository: {made['kind']}, {count} files, {size} MiB"
    return emit(args, {"schema": 1, "image": made}, text)


def _site(args: Args) -> Any:
    """The running daemon's settings; with none running, what one would start with."""
    from dataclasses import replace

    from wspilot.cli.verbs import home_of
    from wspilot.config import load

    home = home_of(args)
    if args.config:
        return load(Path(args.config), home)
    try:
        known = call(home, "config", {})["config"]
    except NoDaemon:
        return load(None, home)
    return replace(load(None, home), images_dir=Path(known["images_dir"]), vmm=known["vmm"])


def _wish(args: Args) -> Any:
    from wspilot.imageadd import Wish

    more = {key: getattr(args, key) for key in ("ready", "pattern", "context", "console")}
    more = {key: value for key, value in more.items() if value}
    if args.memory:
        more["memory_mib"] = parse_size(args.memory, "--memory")
    return Wish(
        args.name,
        args.file or "",
        args.format or "",
        args.kernel or "",
        args.initrd or "",
        args.append or "",
        tuple(args.partition),
        tuple(args.blank),
        args.link,
        more,
    )


class _Bar:
    """One line on a terminal, drawn over itself; elsewhere nothing."""

    def __init__(self, quiet: bool) -> None:
        self._shown = -1
        self._on = sys.stderr.isatty() and not quiet

    def __call__(self, what: str, done: int, of: int) -> None:
        """`done` bytes of `of` (0: nobody knows)."""
        step = done * 100 // of if of else done >> 24
        if self._on and step != self._shown:
            self._shown = step
            share = f"{step} %" if of else f"{done >> 20} MiB"
            print(f"\r\x1b[K{what} {share}", end="\r" if done == of else "", file=sys.stderr,
                  flush=True)  # fmt: skip
