"""The command line of the zipapp, and what must be true before a command begins."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from wspilot import __version__
from wspilot.errors import WspilotError
from wspilot.node import proc

KILL_ALL = "end wspilot's VMs on this node and give everything back, with no daemon and no spool"


def run(argv: list[str]) -> int:
    """Parse and run. Exit codes: 0 in order, 1 failed, 2 usage."""
    options = _parser().parse_args(argv)
    os.umask(0o077)
    began = proc.started_at(os.getpid()) or proc.now()
    try:
        spool = Path(getattr(options, "spool", "/")).absolute()
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
    node = argparse.ArgumentParser(add_help=False)
    node.add_argument("--epoch", type=int, default=1, help="which start of the job this is")
    node.add_argument("--age", type=float, default=0.0, help="seconds since the launcher began")
    node.add_argument("--node", default="", help="the batch system's name of this node")
    node.add_argument("--nodes", default="", help="all nodes of the job, in its order")
    pilot = commands.add_parser("pilot", parents=[slot, node], help="guard one node of a slot")
    pilot.set_defaults(run=_pilot)
    repair = commands.add_parser(
        "repair", parents=[slot, node], help="undo what is left on one node; starts nothing"
    )
    repair.set_defaults(run=_repair)
    measured = commands.add_parser(
        "measure", parents=[slot, node], help="bench, for a slot of `wspilot bench host`"
    )
    measured.set_defaults(run=_measure)
    test = commands.add_parser("selftest", help="does this node fit?")
    test.add_argument("--json", action="store_true", help="one document instead of lines")
    test.set_defaults(run=_selftest)
    measure = commands.add_parser("bench", help="measure domain 0: reduce, restore, kill-all")
    measure.add_argument("--rounds", type=int, default=20, metavar="N", help="trials (20)")
    measure.add_argument("--mib", type=int, default=256, metavar="M", help="memory moved (256)")
    measure.add_argument("--guests", type=int, default=0, metavar="N", help="kill-all ends N too")
    measure.add_argument("--kernel", default="", help="what they boot from")
    measure.add_argument("--initrd", default="", help="and its initrd")
    measure.add_argument("--json", action="store_true", help="one document instead of a table")
    measure.set_defaults(run=_bench)
    _add_kill_all(commands.add_parser("kill-all", help=KILL_ALL, description=f"{KILL_ALL}."))
    return parser


def _add_kill_all(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--job", default="", help="only those of this job (an LRM's epilogue)")
    which.add_argument("--slot", default="", help="only those of this slot")
    which.add_argument("--everyone", action="store_true", help="those of every user (root)")
    add("--user", default="", help="only those of this user, by number or name (root)")
    add("--all", action="store_true", help="also guests that are not wspilot's")
    add("--yes", action="store_true", help="do not ask before guests that are not ours are ended")
    add("--node", default="", help="this node's name; default: SLURMD_NODENAME, else all here")
    add("--wait", type=float, default=None, help="seconds for guardians, instead of their budget")
    add("--json", action="store_true", help="one document instead of lines")
    parser.set_defaults(run=_kill_all)


def _launch(options: argparse.Namespace, spool: Path, began: float) -> int:
    from wspilot.node.launcher import Job, launch_slot

    program = (sys.executable, str(Path(sys.argv[0]).absolute()))
    return launch_slot(Job(spool, options.slot, program, began), os.environ)


def _pilot(options: argparse.Namespace, spool: Path, began: float) -> int:
    from wspilot.node.entry import run_pilot

    age = options.age + (proc.now() - began)
    nodes = tuple(name for name in options.nodes.split(",") if name)
    return run_pilot(spool, options.slot, options.epoch, age, options.node, nodes)


def _repair(options: argparse.Namespace, spool: Path, began: float) -> int:
    from wspilot.node.launcher import Job
    from wspilot.node.refusal import repair

    nodes = tuple(name for name in options.nodes.split(",") if name)
    return repair(Job(spool, options.slot, (), began), options.epoch, options.node, nodes)


def _measure(options: argparse.Namespace, spool: Path, began: float) -> int:
    from wspilot.node.benchjob import measure
    from wspilot.node.launcher import Job

    nodes = tuple(name for name in options.nodes.split(",") if name)
    job = Job(spool, options.slot, (), began - options.age)
    return measure(job, options.epoch, options.node, nodes)


def _kill_all(options: argparse.Namespace, spool: Path, began: float) -> int:
    from wspilot.node.killall import Request, kill_all

    words = ("job", "slot", "everyone", "user", "all", "yes", "node", "wait", "json")
    return kill_all(Request(**{word: getattr(options, word) for word in words}), os.environ)


def _selftest(options: argparse.Namespace, spool: Path, began: float) -> int:
    from wspilot.node.selftest import selftest

    return selftest(options.json)


def _bench(options: argparse.Namespace, spool: Path, began: float) -> int:
    from wspilot.node.benchhost import Guests, Plan, bench

    guests = Guests(options.guests, options.kernel, options.initrd)
    return bench(Plan(options.rounds, options.mib, guests), options.json)
