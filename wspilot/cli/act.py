"""The verbs that act: deploy, wait, destroy. Each asks once, with one token, and may then wait."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from wspilot.asks import act, token
from wspilot.cli import render
from wspilot.cli.parse import Args
from wspilot.cli.verbs import emit, home_of
from wspilot.client import call
from wspilot.errors import Refused, UsageError
from wspilot.text import clean, parse_duration

MAX_FILE = 1 << 20


def deploy(args: Args) -> int:
    params: dict[str, Any] = {"token": token(), "dry_run": args.dry_run,
                              "show_script": args.show_script}  # fmt: skip
    params.update(_what(args))
    doc = call(home_of(args), "deploy", params)
    if "plan" in doc:
        return emit(args, doc, doc.get("script") or render.plan(doc["plan"]))
    ws = doc["workspace"]
    if args.wait:
        return _wait_for(args, ws["id"], "active")
    return emit(args, doc, f"{ws['name']} ({ws['id']}) is {ws['state']}: "
                  f"wspilot wait {ws['name']} --for active")  # fmt: skip


def _what(args: Args) -> dict[str, Any]:
    """The request's content from a file or from `--type`."""
    if bool(args.file) == bool(args.type):
        raise UsageError(
            "deploy: a FILE.toml or --type T, one of them", "see: wspilot deploy --help"
        )
    named = {"name": args.name} if args.name else {}
    if args.duration is not None:
        parse_duration(args.duration, "--duration")
        named["duration"] = args.duration
    if args.type:
        if "duration" not in named:
            raise UsageError("deploy --type needs --duration", "for instance --duration 2h")
        count = 1 if args.count is None else args.count
        if count < 1:
            raise UsageError(f"--count: {count} is not at least 1")
        return {**named, "type": args.type, "image": args.image or "", "count": count}
    for option in ("image", "count"):
        if getattr(args, option) is not None:
            raise UsageError(f"--{option} goes with --type, not with a file")
    return {**named, "ensemble": read_ensemble(Path(args.file))}


def read_ensemble(path: Path) -> dict[str, Any]:
    """An ensemble file; a pipe will do. What it asks for is judged by the daemon."""
    import tomllib

    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise UsageError(f"{path}: over 1 MiB, no ensemble", "see examples/ for ensembles")
        return tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: not TOML: {clean(str(error), 300)}", "mend that line") from None
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read: {error.strerror}", "see examples/ for ensembles"
        ) from None


def wait(args: Args) -> int:
    return _wait_for(args, args.id, args.goal)


def _wait_for(args: Args, id: str, goal: str) -> int:
    from wspilot.cli.progress import wait as wait_for

    doc = wait_for(home_of(args), id, goal, args.timeout, quiet=args.json)
    return emit(args, doc, render.show(doc["workspace"], time.time()))


def destroy(args: Args) -> int:
    home = home_of(args)
    if args.all == bool(args.ids):
        raise UsageError("destroy: name what to destroy, or say --all", "see: wspilot list")
    if not args.yes:
        _confirm(args, home)
    params = act("destroy", None if args.all else args.ids, abandon=args.abandon)
    doc = call(home, "destroy", params)
    if not args.no_wait:
        _gone(args, home, _targets(args, doc["workspaces"]))
        doc = {"schema": 1, "workspaces": [
            call(home, "show", {"id": ws["id"]})["workspace"] for ws in doc["workspaces"]
        ]}  # fmt: skip
    lines = [f"{clean(ws['name'])} is {ws['state']}" for ws in doc["workspaces"]]
    return emit(args, doc, "\n".join(lines) or "nothing to destroy")


def on_vms(args: Args) -> int:
    """start, stop, pause, resume, reboot, suspend; save."""
    home, verb = home_of(args), args.verb
    ids = [args.id] if verb == "save" else args.ids
    more = {"image": args.image} if verb == "save" else {}
    doc = call(home, verb, act(verb, ids, **more))
    if not args.no_wait:
        _done(args, home, ids)
    return _told(args, home, [ws["id"] for ws in doc["workspaces"]])


def extend(args: Args) -> int:
    home = home_of(args)
    parse_duration(args.by, "--by")
    doc = call(home, "extend", act("extend", [args.id], by=args.by))
    ws = doc["workspaces"][0]
    left = render.left(ws["ends"], time.time())
    return emit(args, doc, f"{clean(ws['name'])} ends in {left}")


def _done(args: Args, home: Path, ids: list[str]) -> None:
    """Wait until no verb is under way on them. Raises TimedOut, or what the nodes refused."""
    from wspilot.cli.progress import wait as wait_for

    start = time.monotonic()
    for id in ids:
        left = None
        if args.timeout is not None:
            left = max(0.0, args.timeout - (time.monotonic() - start))
        wait_for(home, id, "done", left, quiet=args.json)


def _told(args: Args, home: Path, ids: list[str]) -> int:
    """The workspaces as they are now."""
    found = [call(home, "show", {"id": id})["workspace"] for id in ids]
    doc = {"schema": 1, "workspaces": found}
    return emit(args, doc, "\n\n".join(render.vms(ws["vms"]) for ws in found))


def _targets(args: Args, found: list[dict[str, Any]]) -> list[str]:
    """Workspaces by id (their names are free at once); groups and VMs as they were named."""
    whole = {ws["id"]: ws["name"] for ws in found if ws["wanted"] == "ended"}
    parts = [
        id for id in args.ids
        if "/" in id or not any(id == name or one.startswith(id) for one, name in whole.items())
    ]  # fmt: skip
    return [*whole, *parts]


def _gone(args: Args, home: Path, targets: list[str]) -> None:
    """Wait for the ends, all within one time limit. Raises TimedOut."""
    from wspilot.cli.progress import wait as wait_for

    start = time.monotonic()
    for id in targets:
        left = None
        if args.timeout is not None:
            left = max(0.0, args.timeout - (time.monotonic() - start))
        wait_for(home, id, "ended", left, quiet=args.json)


def _confirm(args: Args, home: Path) -> None:
    """Name what will be lost, and ask. Raises Refused without a terminal or a yes."""
    if args.all:
        found = call(home, "list", {})["workspaces"]
    else:
        found = [call(home, "show", {"id": id})["workspace"] for id in args.ids]
    for ws in found:
        print(f"{clean(ws['name'])}: {len(ws['vms'])} VMs, {ws['state']}, lease left "
              f"{render.left(ws['ends'], time.time())}", file=sys.stderr)  # fmt: skip
    if not sys.stdin.isatty():
        raise Refused("nothing was destroyed: there is no terminal to ask at", "say --yes")
    what = "ALL of these" if args.all else ", ".join(clean(id, 80) for id in args.ids)
    print(f"Destroy {what}? What is on their disks is lost. [y/N] ", end="", file=sys.stderr)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Refused("nothing was destroyed")
