"""The command line of the zipapp, and what must be true before a command begins."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from wspilot import __version__
from wspilot.errors import WspilotError
from wspilot.node import proc


def run(argv: list[str]) -> int:
    """Parse and run. Exit codes: 0 in order, 1 failed, 2 usage."""
    options = _parser().parse_args(argv)
    os.umask(0o077)
    began = proc.started_at(os.getpid()) or proc.now()
    try:
        spool = Path(options.spool).absolute()
        os.chdir("/")
        code: int = options.run(options, spool, began)
    except WspilotError as error:
        hint = f"\n  {error.hint}" if error.hint else ""
        print(f"wspilot: {error.message}{hint}", file=sys.stderr, flush=True)
        return int(error.code)
    except OSError as error:
        print(f"wspilot: {error}", file=sys.stderr, flush=True)
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wspilot-node.pyz", description="The node side of wspilot: started by its batch jobs."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    slot = argparse.ArgumentParser(add_help=False)
    slot.add_argument("--spool", required=True, help="the spool directory")
    slot.add_argument("--slot", required=True, help="the slot's id")
    launch = commands.add_parser("launch", parents=[slot], help="claim a slot, start its pilots")
    launch.set_defaults(run=_launch)
    pilot = commands.add_parser("pilot", parents=[slot], help="guard one node of a slot")
    pilot.add_argument("--epoch", type=int, default=1, help="which start of the job this is")
    pilot.add_argument("--age", type=float, default=0.0, help="seconds since the launcher began")
    pilot.add_argument("--node", default="", help="the batch system's name of this node")
    pilot.add_argument("--nodes", default="", help="all nodes of the job, in its order")
    pilot.set_defaults(run=_pilot)
    return parser


def _launch(options: argparse.Namespace, spool: Path, began: float) -> int:
    from wspilot.node.launcher import Job, launch_slot

    program = (sys.executable, str(Path(sys.argv[0]).absolute()))
    return launch_slot(Job(spool, options.slot, program, began), os.environ)


def _pilot(options: argparse.Namespace, spool: Path, began: float) -> int:
    from wspilot.node.entry import run_pilot

    age = options.age + (proc.now() - began)
    nodes = tuple(name for name in options.nodes.split(",") if name)
    return run_pilot(spool, options.slot, options.epoch, age, options.node, nodes)
