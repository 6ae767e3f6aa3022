"""What may stand on the command line: one table of verbs, read by argparse and by completion."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from wspilot import __version__
from wspilot.errors import UsageError
from wspilot.text import clean, did_you_mean, parse_duration

Args = argparse.Namespace
WS = "a workspace: its name, its id, or how the id begins"
ANY = f"{WS}; NAME/GROUP: its group; NAME/GROUP/N, or an id: its VM"
VM = "NAME/GROUP/N, or a VM's id"


class _Parser(argparse.ArgumentParser):
    """argparse that raises our error instead of exiting."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see: {self.prog} --help")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """argparse would list all verbs, also those that are nobody's to type."""
        if action.dest == "verb" and value not in (action.choices or ()):
            known = [name for name in action.choices or () if not name.startswith("_")]
            raise UsageError(f"there is no verb {clean(value, 60)!r}", did_you_mean(value, known))
        super()._check_value(action, value)


def parse(argv: list[str]) -> Args:
    """The arguments of one command. Raises UsageError; `--help` and `--version` exit 0."""
    args = parser().parse_args(argv)
    if args.verb is None:
        args = parser().parse_args([*argv, "tui"])
    return args


def parser() -> argparse.ArgumentParser:
    """All verbs."""
    top = _Parser(prog="wspilot", description="Leases of virtual machines on a batch cluster.")
    top.add_argument("--version", action="version", version=f"wspilot {__version__}")
    top.add_argument(
        "--home", help="the daemon's home (default: $WSPILOT_HOME, else the state directory)"
    )
    verbs = top.add_subparsers(dest="verb", metavar="VERB", parser_class=_Parser)
    common = _Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="one JSON document on stdout")
    for add in (_running, _reading, _acting):
        add(verbs, common)
    return top


def _running(verbs: Any, common: argparse.ArgumentParser) -> None:
    one = verbs.add_parser("daemon", parents=[common], help="run the daemon")
    one.add_argument("--config", metavar="FILE", help="the site's TOML")
    one.add_argument(
        "--detach", action="store_true", help="in the background; returns when it serves"
    )
    one.add_argument(
        "--take-over", action="store_true", help="the host that holds the home is gone"
    )
    one = verbs.add_parser("tui", parents=[common], help="the terminal interface")
    one.add_argument("--demo", action="store_true", help="a canned busy site, without a daemon")
    one.add_argument("--read-only", action="store_true", help="look, and change nothing")
    one.add_argument(
        "--no-mouse", action="store_true", help="the terminal keeps its own way of selecting text"
    )
    one.add_argument(
        "--a11y", action="store_true", help="line by line, for screen readers: list --watch"
    )
    one.add_argument(
        "--web",
        action="store_true",
        help="in a browser on this host; read-only, and only where the site allows it",
    )
    one.add_argument("--write", action="store_true", help="--web: may act, too")
    one.add_argument("--port", type=int, default=0, metavar="N", help="--web: a free one")
    one = verbs.add_parser("doctor", parents=[common], help="check this site")
    one.add_argument("--config", metavar="FILE", help="the site's TOML")
    one = verbs.add_parser("demo", parents=[common], help="try it all on this machine")
    one.add_argument("ensemble", nargs="?", help="an ensemble file (default: the OSG cluster)")
    one.add_argument(
        "--sim", action="store_true", help="simulated VMs, even where QEMU is installed"
    )
    one.add_argument("--vmm", choices=["qemu", "sim"], help="insist on one of them")
    one.add_argument("--no-tui", action="store_true", help="end after the table")


def _reading(verbs: Any, common: argparse.ArgumentParser) -> None:
    watch = argparse.ArgumentParser(add_help=False)
    watch.add_argument("--watch", action="store_true", help="again after every change")
    verbs.add_parser("types", parents=[common], help="show the site's lease types")
    verbs.add_parser("slots", parents=[common, watch], help="show the site's slots")
    _images(verbs.add_parser("images", parents=[common], help="show the site's images, or add one"))
    one = verbs.add_parser("config", parents=[common], help="show the effective settings")
    one.add_argument("--config", metavar="FILE", help="of this file, not of the running daemon")
    one = verbs.add_parser("nodes", parents=[common, watch], help="nodes, or vouch for one")
    one.add_argument(
        "act",
        nargs="?",
        choices=["forget", "repair"],
        help="forget: you vouch that it is clean; repair: send its repair job now",
    )
    one.add_argument("node", nargs="?")
    one = verbs.add_parser("list", parents=[common, watch], help="workspaces")
    one.add_argument("--all", action="store_true", help="ended ones too")
    one = verbs.add_parser("show", parents=[common, watch], help="one workspace in full")
    one.add_argument("id", metavar="ID", help=WS)
    one = verbs.add_parser("events", parents=[common], help="what has happened")
    one.add_argument("-f", "--follow", action="store_true", help="and what happens")
    one.add_argument("id", nargs="?", metavar="ID", help=WS)
    one = verbs.add_parser(
        "logs", parents=[common], help="job scripts, and logs of pilots, jobs and consoles"
    )
    one.add_argument("id", metavar="ID", help=ANY)
    one = verbs.add_parser("fsck", parents=[common], help="check the books, and mend them")
    one.add_argument("--yes", action="store_true", help="carry the plan out")
    one.add_argument("--prove", nargs="?", const="", metavar="ID",
                     help="where the proof lies that all of ended leases came back")  # fmt: skip
    one.add_argument("--config", metavar="FILE", help="where no daemon runs: the site's TOML")
    one.add_argument("--take-over", action="store_true",
                     help="where no daemon runs: the host that holds the home is gone")  # fmt: skip
    one = verbs.add_parser("completion", parents=[common], help="shell completion")
    one.add_argument("shell", choices=["bash", "zsh"])
    one = verbs.add_parser("__complete", parents=[common])
    one.add_argument("words", nargs=argparse.REMAINDER)


def _images(one: argparse.ArgumentParser) -> None:
    add = one.add_argument
    add("act", nargs="?", choices=["add"], help="add: put a new one into the repository")
    add("name", nargs="?", metavar="NAME")
    add("file", nargs="?", metavar="FILE|URL", help="its disk: qcow2 or raw")
    add("--format", metavar="F", help="qcow2 or raw (by its first bytes)")
    add("--kernel", metavar="FILE|URL", help="booted directly, from outside the disk")
    add("--initrd", metavar="FILE|URL")
    add("--append", metavar="LINE", help="the kernel's command line")
    add("--partition", metavar="FILE[:ROLE]", action="append", default=[],
        help="a cached partition: a disk of its own")  # fmt: skip
    add("--blank", metavar="SIZE[:FS[:LABEL]]", action="append", default=[],
        help="an empty disk, made on the node: ext4, swap or none")  # fmt: skip
    add("--ready", metavar="HOW", help="agent, address, console or process")
    add("--pattern", metavar="TEXT", help="what console waits for")
    add("--context", metavar="HOW", help="agent, cloud-init, patch or none")
    add("--console", metavar="DEVICE", help="ttyS0, hvc0, ...")
    add("--memory", metavar="SIZE", help="the least it boots with: 512MiB")
    add("--link", action="store_true", help="nodes fetch from the URL; nothing is copied here")
    add("--config", metavar="FILE", help="where no daemon runs: the site's TOML")


def _acting(verbs: Any, common: argparse.ArgumentParser) -> None:
    limits = _Parser(add_help=False)
    limits.add_argument("--timeout", type=_timeout, metavar="S", help="seconds, or a duration")
    one = verbs.add_parser("deploy", parents=[common, limits], help="lease VMs")
    one.add_argument("file", nargs="?", metavar="FILE.toml", help="an ensemble")
    one.add_argument("--type", metavar="T", help="instead of a file: a lease type")
    one.add_argument("--image", metavar="I")
    one.add_argument("--count", type=int, metavar="N", default=None)
    one.add_argument("--duration", metavar="D", help="2h, 90m, ...")
    one.add_argument("--name")
    one.add_argument("--wait", action="store_true", help="until it is active")
    one.add_argument("--no-wait", action="store_true", help="return on acceptance (the default)")
    one.add_argument(
        "--dry-run", action="store_true", help="what it would ask for; nothing is done"
    )
    one.add_argument("--show-script", action="store_true", help="the job script; nothing is done")
    one = verbs.add_parser("bench", parents=[common, limits], help="measure leases, by phase")
    one.add_argument("what", nargs="?", choices=["leases", "host"], default="leases")
    one.add_argument("node", nargs="?", metavar="NODE", help="bench host: which one")
    one.add_argument("--leases", type=int, default=10, metavar="N", help="how many (10)")
    one.add_argument("--parallel", type=int, default=1, metavar="P", help="at a time (1)")
    one.add_argument("--count", type=int, default=1, metavar="N", help="VMs of each (1)")
    one.add_argument("--type", metavar="T", help="lease type (the smallest)")
    one.add_argument("--image", metavar="I")
    one.add_argument("--duration", metavar="D", default="10m")
    _bench_host(one.add_argument_group("bench host", "as wspilot-node.pyz bench, on NODE"))
    one = verbs.add_parser("wait", parents=[common, limits], help="wait for a workspace or VM")
    one.add_argument("id", metavar="ID", help=ANY)
    one.add_argument("--for", dest="goal", choices=["active", "ended"], default="active")
    one = verbs.add_parser("destroy", parents=[common, limits], help="end leases")
    one.add_argument("ids", nargs="*", metavar="ID", help=ANY)
    one.add_argument("--all", action="store_true", help="every workspace")
    one.add_argument("--yes", action="store_true", help="do not ask")
    one.add_argument("--no-wait", action="store_true", help="return when it is accepted")
    one.add_argument("--abandon", action="store_true", help="close the books without proof")
    _living(verbs, common, limits)
    _reaching(verbs, common)


def _bench_host(group: Any) -> None:
    group.add_argument("--rounds", type=int, default=20, metavar="N", help="trials (20)")
    group.add_argument("--mib", type=int, default=256, metavar="M", help="memory moved (256)")
    group.add_argument("--guests", type=int, default=0, metavar="N", help="kill-all ends N too")
    group.add_argument("--kernel", metavar="FILE", help="on the node: what they boot from")
    group.add_argument("--initrd", metavar="FILE")


def _reaching(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Into a guest."""
    one = verbs.add_parser("console", parents=[common], help="a VM's console; Ctrl-] leaves it")
    one.add_argument("id", metavar="VM", help=VM)
    one = verbs.add_parser(
        "ssh", parents=[common], help="log in to a VM",
        description="The system's ssh, through the VM's pilot. --json: only where it is reached.",
        usage="%(prog)s [-h] [--json] [-l USER] [-p PORT] VM [[--] ARGS of ssh ...]",
    )  # fmt: skip
    one.add_argument("-l", "--login", metavar="USER", default="root", help="default: root")
    one.add_argument("-p", "--port", type=int, metavar="PORT", default=22,
                     help="of the guest: 22, or what the site allows")  # fmt: skip
    one.add_argument("id", metavar="VM", help=VM)
    one.add_argument("args", nargs=argparse.REMAINDER, metavar="ARGS")
    one = verbs.add_parser("_forward", parents=[common])
    one.add_argument("id", metavar="VM", help=VM)
    one.add_argument("port", type=int, metavar="PORT")


VERBS = {
    "start": "boot stopped VMs again",
    "stop": "shut VMs down; their disks stay until the lease ends",
    "pause": "let VMs stand still, in memory",
    "resume": "let paused or suspended VMs go on",
    "reboot": "shut VMs down and boot them again",
    "suspend": "put VMs to sleep on their node's disk",
}


def _living(verbs: Any, common: argparse.ArgumentParser, limits: argparse.ArgumentParser) -> None:
    """Verbs on living VMs."""
    waits = argparse.ArgumentParser(add_help=False)
    waits.add_argument("--no-wait", action="store_true", help="return when it is accepted")
    for name, text in VERBS.items():
        one = verbs.add_parser(name, parents=[common, limits, waits], help=text)
        one.add_argument("ids", nargs="+", metavar="ID", help=ANY)
    one = verbs.add_parser("save", parents=[common, limits, waits],
                           help="keep a VM's disk as a new image")  # fmt: skip
    one.add_argument("id", metavar="VM", help=VM)
    one.add_argument("image", metavar="IMAGE", help="the new image's name")
    one = verbs.add_parser("extend", parents=[common], help="make an active lease longer")
    one.add_argument("id", metavar="ID", help=WS)
    one.add_argument("--by", required=True, metavar="D", help="30m, 1h, ...")


def _timeout(text: str) -> float:
    """Seconds. Only here a bare number is allowed."""
    try:
        seconds = float(text)
    except ValueError:
        return float(parse_duration(text, "--timeout"))
    if not 0 <= seconds < 1e9:
        raise UsageError(f"--timeout: {text} s is no time limit", "write it as 90, 90s or 10m")
    return seconds
