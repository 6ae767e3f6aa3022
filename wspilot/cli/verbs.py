"""One function a verb: ask the daemon, print a document or a table, return the exit code."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wspilot.cli import render
from wspilot.cli.parse import Args
from wspilot.client import call
from wspilot.errors import Code, Refused, UsageError
from wspilot.home import home_dir
from wspilot.text import clean, parse_duration

Verb = Callable[[Args], int]


def run(args: Args) -> int:
    """Run the verb of `args`. Raises WspilotError."""
    return _VERBS[args.verb](args)


def home_of(args: Args) -> Path:
    """The home that `--home` or the environment names."""
    return Path(args.home).absolute() if args.home else home_dir()


def _print(args: Args, doc: Mapping[str, Any], text: str) -> int:
    print(json.dumps(doc) if args.json else text, flush=True)
    return 0


# -- run


def _daemon(args: Args) -> int:
    config = Path(args.config).absolute() if args.config else None
    if args.detach:
        from wspilot.daemon.detach import detach

        pid = detach(home_of(args), config, args.take_over)
        return _print(args, {"schema": 1, "pid": pid}, f"the daemon runs as pid {pid}")
    from wspilot.daemon.service import run as serve

    return serve(config, home_of(args), take_over=args.take_over)


def _tui(args: Args) -> int:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("the terminal interface needs a terminal", "without one: wspilot list")
    from wspilot.tui.app import run as show

    return show(home_of(args), demo=args.demo, read_only=args.read_only)


def _doctor(args: Args) -> int:
    from wspilot.doctor import run as examine

    return examine(args)


def _demo(args: Args) -> int:
    from wspilot.demo import run as demonstrate

    return demonstrate(args)


def _completion(args: Args) -> int:
    from wspilot.cli.completion import BASH

    print(BASH)
    return 0


# -- read


def _simple(noun: str, draw: Callable[[Any], str]) -> Verb:
    def verb(args: Args) -> int:
        doc = call(home_of(args), noun, {})
        return _print(args, doc, draw(doc[noun]))

    return verb


def _nodes(args: Args) -> int:
    if args.act and not args.node:
        raise UsageError("nodes forget: which node?", "wspilot nodes forget NODE")
    params = {"node": args.node, "token": uuid.uuid4().hex} if args.act else {}
    doc = call(home_of(args), "forget" if args.act else "nodes", params)
    return _print(args, doc, render.nodes(doc["nodes"], time.time()))


def _list(args: Args) -> int:
    if args.watch:
        return _watch(args)
    doc = call(home_of(args), "list", {"all": args.all})
    return _print(args, doc, render.workspaces(doc["workspaces"], time.time()))


def _watch(args: Args) -> int:
    """The plain twin of the TUI: the list again after every change, until interrupted."""
    import asyncio

    async def follow() -> None:
        from wspilot.client import Client

        client = await Client.open(home_of(args))
        try:
            async for _ in client.subscribe():
                doc = await client.call("list", all=args.all)
                if sys.stdout.isatty() and not args.json:
                    print("\x1b[H\x1b[2J", end="")
                _print(args, doc, render.workspaces(doc["workspaces"], time.time()))
                await asyncio.sleep(0.5)
        finally:
            await client.close()

    asyncio.run(follow())
    return 0


def _show(args: Args) -> int:
    doc = call(home_of(args), "show", {"id": args.id})
    return _print(args, doc, render.show(doc["workspace"], time.time()))


def _events(args: Args) -> int:
    home, after = home_of(args), 0
    params = {"id": args.id} if args.id else {}
    doc = call(home, "events", params)
    if not args.follow:
        return _print(args, doc, "\n".join(map(render.event, doc["events"])) or "nothing yet")
    while True:
        for event in doc["events"]:
            after = int(event["id"])
            print(json.dumps(event) if args.json else render.event(event), flush=True)
        time.sleep(0.5)
        doc = call(home, "events", {**params, "after": after})


def _logs(args: Args) -> int:
    doc = call(home_of(args), "logs", {"id": args.id})
    parts = [f"==> {one['slot']}/{clean(one['name'])} <==\n{one['text']}" for one in doc["logs"]]
    return _print(args, doc, "\n\n".join(parts) or "no logs yet")


def _config(args: Args) -> int:
    from wspilot.config import load
    from wspilot.daemon.documents import config

    doc = config(load(None, home_of(args)))
    lines = [f"{key} = {json.dumps(value)}" for key, value in doc["config"].items()]
    return _print(args, doc, "\n".join(lines))


# -- act


def _deploy(args: Args) -> int:
    params: dict[str, Any] = {"token": uuid.uuid4().hex, "dry_run": args.dry_run,
                              "show_script": args.show_script}  # fmt: skip
    params.update(_what(args))
    doc = call(home_of(args), "deploy", params)
    if "plan" in doc:
        return _print(args, doc, doc.get("script") or render.plan(doc["plan"]))
    ws = doc["workspace"]
    if args.wait:
        return _wait_for(args, ws["id"], "active")
    return _print(args, doc, f"{ws['name']} ({ws['id']}) is {ws['state']}: "
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
    return {**named, "ensemble": _toml(Path(args.file))}


def _toml(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {clean(str(error), 300)}", "mend that line") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path}: cannot be read: {error}", "see examples/ for ensembles"
        ) from None


def _wait(args: Args) -> int:
    return _wait_for(args, args.id, args.goal)


def _wait_for(args: Args, id: str, goal: str) -> int:
    from wspilot.cli.progress import wait

    doc = wait(home_of(args), id, goal, args.timeout, quiet=args.json)
    return _print(args, doc, render.show(doc["workspace"], time.time()))


def _destroy(args: Args) -> int:
    home = home_of(args)
    if args.all == bool(args.ids):
        raise UsageError("destroy: name what to destroy, or say --all", "see: wspilot list")
    params: dict[str, Any] = {"all": True} if args.all else {"ids": args.ids}
    if not args.yes:
        _confirm(args, home)
    doc = call(home, "destroy", {**params, "abandon": args.abandon, "token": uuid.uuid4().hex})
    if not args.no_wait:
        from wspilot.cli.progress import wait

        whole = {ws["id"] for ws in doc["workspaces"] if ws["wanted"] == "ended"}
        targets = list(whole) or args.ids
        for id in targets:
            wait(home, id, "ended", args.timeout, quiet=args.json)
        doc = {"schema": 1, "workspaces": [
            call(home, "show", {"id": ws["id"]})["workspace"] for ws in doc["workspaces"]
        ]}  # fmt: skip
    lines = [f"{clean(ws['name'])} is {ws['state']}" for ws in doc["workspaces"]]
    return _print(args, doc, "\n".join(lines) or "nothing to destroy")


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


_VERBS: Mapping[str, Verb] = {
    "daemon": _daemon, "tui": _tui, "doctor": _doctor, "demo": _demo, "completion": _completion,
    "types": _simple("types", render.types), "images": _simple("images", render.images),
    "slots": _simple("slots", lambda docs: render.slots(docs, time.time())), "nodes": _nodes,
    "list": _list, "show": _show, "events": _events, "logs": _logs, "config": _config,
    "deploy": _deploy, "wait": _wait, "destroy": _destroy,
}  # fmt: skip

__all__ = ["Code", "home_of", "run"]
