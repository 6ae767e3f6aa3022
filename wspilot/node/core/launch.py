"""The launcher's decisions: which nodes it was given, whether they are enough, what it starts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from wspilot.errors import WspilotError

# messages.NODE_RE, whose module would cost every launcher 20 ms.
NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_GROUP = re.compile(r"([^,\[\]]*)(?:\[([0-9,-]+)\])?([^,\[\]]*)(?:,|$)")
MOST_NODES = 10000


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Each name once, in order. Raises WspilotError for one that cannot be a node's."""
    for name in names:
        if not NODE.fullmatch(name):
            raise WspilotError(f"the batch system named a node {name!r:.80}")
    return tuple(dict.fromkeys(names))


def unfold(text: str) -> tuple[str, ...]:
    """Slurm's `n[01-03,7],login2` as names. Raises WspilotError."""
    names: list[str] = []
    at = 0
    while at < len(text):
        match = _GROUP.match(text, at)
        if match is None or match.end() == at:
            raise WspilotError(f"SLURM_JOB_NODELIST is not understood: {text!r:.80}")
        before, ranges, after = match.groups()
        for part in ranges.split(",") if ranges else [""]:
            first, _, last = part.partition("-")
            for number in range(int(first or 0), int(last or first or 0) + 1):
                index = f"{number:0{len(first)}d}" if part else ""
                names.append(f"{before}{index}{after}")
                if len(names) > MOST_NODES:
                    raise WspilotError("SLURM_JOB_NODELIST names too many nodes")
        at = match.end()
    return distinct(names)


def given(env: Mapping[str, str], node_file: str) -> tuple[str, ...]:
    """The nodes of this job, by whichever batch system speaks; empty when none does.

    `node_file` is the content of PBS_NODEFILE. Slurm's own words hold over its Torque commands',
    which set no PBS_* at all.
    """
    if env.get("WSPILOT_LOCAL_NODES"):
        return distinct(env["WSPILOT_LOCAL_NODES"].replace(",", " ").split())
    if env.get("SLURM_JOB_NODELIST"):
        return unfold(env["SLURM_JOB_NODELIST"])
    return distinct(node_file.split())


def own_node(named: str, nodes: Sequence[str], env: Mapping[str, str], host: str) -> str:
    """Which node of them this process stands on: the batch system's word before the host's name.

    Torque tells its tasks a number only (PBS_NODENUM, in the order of PBS_NODEFILE).
    """
    if named or env.get("WSPILOT_NODE") or env.get("SLURMD_NODENAME"):
        return named or env.get("WSPILOT_NODE") or env["SLURMD_NODENAME"]
    number = env.get("PBS_NODENUM", "")
    if number.isdigit() and int(number) < len(nodes):
        return nodes[int(number)]
    short = host.partition(".")[0]
    for node in nodes:
        if node in (host, short) or node.partition(".")[0] == short:
            return node
    return short


def too_few(nodes: Sequence[str], asked: int, pack: bool) -> str:
    """Why this job cannot serve: empty when it can."""
    if pack or len(nodes) >= asked:
        return ""
    return f"packed: {asked} nodes were asked for and the batch system gave {len(nodes)}"


def start_argv(prefix: Sequence[str], nodes: int, pilot: Sequence[str]) -> tuple[str, ...]:
    """One process per node, the driver's way."""
    return (*(word.replace("{nodes}", str(nodes)) for word in prefix), *pilot)


def escapes(prefix: Sequence[str]) -> bool:
    """Must the starter be kept out of the job's signals?

    srun takes a TERM as "kill the tasks now" (seen with Slurm 22.05: 40 ms to the guardians), while
    Slurm itself sends TERM to every task, and KILL only after KillWait.
    """
    return bool(prefix) and prefix[0].rpartition("/")[2] == "srun"
