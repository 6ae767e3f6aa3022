"""The slurm.conf of the tests' own cluster: memory is counted, and nothing waits for a round."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_CONF = """\
ClusterName=wslab
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge/sock
CredType=cred/munge
SlurmctldPort={port}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/pid/slurmctld.pid
SlurmdPidFile={root}/pid/slurmd.%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd.%n.log
SlurmctldDebug=debug
SlurmdDebug=debug
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
PlugStackConfig={root}/plugstack.conf
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0
PriorityType=priority/basic
MinJobAge=300
SlurmctldTimeout=30
SlurmdTimeout=20
BatchStartTimeout=10
CompleteWait=0
ReturnToService=2
InactiveLimit=0
MaxJobCount=10000
MessageTimeout=10
PropagateResourceLimits=NONE
"""


@dataclass(frozen=True)
class Settings:
    """How a cluster differs from the usual one."""

    nodes: int = 4
    cpus: int = 4
    """CPUs that each node claims; the machine need not have them."""
    memory: int = 2000
    """MiB that each node claims."""
    kill_wait: int = 5
    """Seconds between TERM and KILL of a cancelled job."""
    epilog: str = ""
    """Text of an Epilog (runs as root, without PATH and HOME); empty for none."""
    options: tuple[tuple[str, str], ...] = ()
    """More lines of slurm.conf; a key that is there already is replaced."""


def slurm_conf(settings: Settings, root: Path, nodes: Sequence[str], ports: Sequence[int]) -> str:
    """The text; `ports` are the controller's and one for each node."""
    host = socket.gethostname().partition(".")[0]
    options = dict(settings.options) | {"KillWait": str(settings.kill_wait)}
    if settings.epilog:
        options["Epilog"] = str(root / "epilog")
    usual = _CONF.format(host=host, root=root, port=ports[0]).splitlines()
    lines = [line for line in usual if line.partition("=")[0] not in options]
    lines += [f"{key}={value}" for key, value in options.items()]
    lines += [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
        f"CPUs={settings.cpus} RealMemory={settings.memory} State=UNKNOWN"
        for node, port in zip(nodes, ports[1:], strict=True)
    ]
    lines += [
        "PartitionName=batch Nodes=ALL Default=YES MaxTime=24:00:00 DefaultTime=60 State=UP",
        "PartitionName=short Nodes=ALL Default=NO MaxTime=5 DefaultTime=1 State=UP",
    ]
    return "\n".join(lines) + "\n"


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
