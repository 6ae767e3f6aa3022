"""One function a verb: ask the daemon, print a document or a table, return the exit code."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wspilot.cli import render
from wspilot.cli.parse import VERBS, Args
from wspilot.client import call
from wspilot.errors import NoDaemon, UsageError
from wspilot.home import home_dir
from wspilot.text import clean

Verb = Callable[[Args], int]


def run(args: Args) -> int:
    """Run the verb of `args`. Raises WspilotError."""
    return _VERBS[args.verb](args)


def home_of(args: Args) -> Path:
    """The home that `--home` or the environment names."""
    return Path(args.home).absolute() if args.home else home_dir()


def emit(args: Args, doc: Mapping[str, Any], text: str) -> int:
    print(json.dumps(doc) if args.json else text, flush=True)
    return 0


# -- run


def _daemon(args: Args) -> int:
    config = Path(args.config).absolute() if args.config else None
    if args.detach:
        from wspilot.daemon.detach import detach

        pid = detach(home_of(args), config, args.take_over)
        return emit(args, {"schema": 1, "pid": pid}, f"the daemon runs as pid {pid}")
    from wspilot.daemon.service import run as serve

    return serve(config, home_of(args), take_over=args.take_over)


def _tui(args: Args) -> int:
    if args.a11y:
        return _plain(args)
    if args.json:
        raise UsageError("the terminal interface is for eyes", "for scripts: wspilot list --json")
    if args.web:
        from wspilot.tui.web import serve

        return serve(home_of(args), ["--demo"] if args.demo else [], args.port, args.write)
    served = "web_driver" in os.environ.get("TEXTUAL_DRIVER", "")  # by --web, to a browser
    if not served and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("the terminal interface needs a terminal", "without one: wspilot list")
    gc.disable()  # a third of what the first frame costs us; the interface turns it on again
    from wspilot.tui.app import run as show

    return show(home_of(args), demo=args.demo, read_only=args.read_only, mouse=not args.no_mouse)


def _plain(args: Args) -> int:
    """The main view as lines: it only looks, at a daemon."""
    if args.demo or args.web:
        raise UsageError("--a11y goes with neither --demo nor --web", "wspilot tui --a11y")
    args.watch, args.all = True, False
    return _list(args)


def _doctor(args: Args) -> int:
    from wspilot.doctor import run as examine

    return examine(args)


def _demo(args: Args) -> int:
    from wspilot.demo import run as demonstrate

    return demonstrate(args)


def _completion(args: Args) -> int:
    from wspilot.cli.completion import script

    print(script(args.shell))
    return 0


def _complete(args: Args) -> int:
    from wspilot.cli.completion import candidates

    print("\n".join(candidates(home_of(args), args.words)))
    return 0


# -- read


def _read(args: Args, method: str, params: Mapping[str, Any], draw: Callable[[Any], str]) -> int:
    """Ask once, or with `--watch` after every change."""
    if getattr(args, "watch", False):
        from wspilot.cli.watch import watch

        return watch(args, method, params, draw)
    doc = call(home_of(args), method, dict(params))
    return emit(args, doc, draw(doc))


def _simple(noun: str, draw: Callable[[Any], str]) -> Verb:
    return lambda args: _read(args, noun, {}, lambda doc: draw(doc[noun]))


def _nodes(args: Args) -> int:
    if args.act and not args.node:
        raise UsageError(f"nodes {args.act}: which node?", f"wspilot nodes {args.act} NODE")
    if args.act and args.watch:
        raise UsageError(f"nodes {args.act} is done once", "wspilot nodes --watch")
    params = {"node": args.node, "token": os.urandom(16).hex()} if args.act else {}
    return _read(args, args.act or "nodes", params,
                 lambda doc: render.nodes(doc["nodes"], time.time()))  # fmt: skip


def _list(args: Args) -> int:
    return _read(args, "list", {"all": args.all},
                 lambda doc: render.workspaces(doc["workspaces"], time.time()))  # fmt: skip


def _show(args: Args) -> int:
    return _read(args, "show", {"id": args.id},
                 lambda doc: render.show(doc["workspace"], time.time()))  # fmt: skip


def _events(args: Args) -> int:
    home, after = home_of(args), 0
    params = {"id": args.id} if args.id else {}
    doc = call(home, "events", params)
    if not args.follow:
        return emit(args, doc, "\n".join(map(render.event, doc["events"])) or "nothing yet")
    while True:
        for event in doc["events"]:
            after = int(event["id"])
            print(json.dumps(event) if args.json else render.event(event), flush=True)
        time.sleep(0.5)
        doc = call(home, "events", {**params, "after": after})


def _logs(args: Args) -> int:
    doc = call(home_of(args), "logs", {"id": args.id})
    parts = [f"==> {one['slot']}/{clean(one['name'])} <==\n{one['text']}" for one in doc["logs"]]
    return emit(args, doc, "\n\n".join(parts) or "no logs yet")


def _config(args: Args) -> int:
    """The running daemon's settings; with none running, what one would start with."""
    try:
        if args.config:
            raise NoDaemon("not asked")
        doc = call(home_of(args), "config", {})
    except NoDaemon:
        from wspilot.config import load
        from wspilot.daemon.documents import config

        doc = config(load(Path(args.config) if args.config else None, home_of(args)))
    lines = [f"{key} = {json.dumps(value)}" for key, value in doc["config"].items()]
    return emit(args, doc, "\n".join(lines))


def _images(args: Args) -> int:
    from wspilot.cli.images import images

    return images(args)


def _fsck(args: Args) -> int:
    from wspilot.cli.fsck import fsck

    return fsck(args)


def _bench(args: Args) -> int:
    from wspilot.cli.bench import bench

    return bench(args)


def _console(args: Args) -> int:
    from wspilot.cli.console import console

    return console(args)


def _ssh(args: Args) -> int:
    from wspilot.cli import ssh

    return ssh.ssh(args) if args.verb == "ssh" else ssh.forward(args)


def _act(args: Args) -> int:
    from wspilot.cli import act

    acts = {"deploy": act.deploy, "wait": act.wait, "destroy": act.destroy, "extend": act.extend}
    return acts.get(args.verb, act.on_vms)(args)


_VERBS: Mapping[str, Verb] = {
    "daemon": _daemon, "tui": _tui, "doctor": _doctor, "demo": _demo, "completion": _completion,
    "__complete": _complete,
    "types": _simple("types", render.types), "images": _images,
    "slots": _simple("slots", lambda docs: render.slots(docs, time.time())), "nodes": _nodes,
    "list": _list, "show": _show, "events": _events, "logs": _logs, "config": _config,
    "fsck": _fsck, "bench": _bench, "console": _console, "ssh": _ssh, "_forward": _ssh,
    **dict.fromkeys(("deploy", "wait", "destroy", "extend", "save", *VERBS), _act),
}  # fmt: skip

__all__ = ["emit", "home_of", "run"]
