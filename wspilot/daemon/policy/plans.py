"""What a policy decides: slots to ask for, slots that are there already, and a walltime.

Plain values; the core takes them as they are, and looks again at a slot that a plan counts on.
"""

from __future__ import annotations

from dataclasses import dataclass

Member = tuple[str, int]  # group's name, number from 1


@dataclass(frozen=True)
class SlotPlan:
    """One slot, and who goes there. Memory per node, MiB, overhead included."""

    members: tuple[Member, ...]
    nodes: int
    ppn: int
    memory_mib: int
    whole_node: bool
    held: str = ""
    """A spare slot that is to be taken; empty: the batch system is asked for one."""


@dataclass(frozen=True)
class Spare:
    """A slot that stands ready and serves nobody. `left_s`: seconds that VMs may still run there,
    by its walltime."""

    id: str
    nodes: int
    ppn: int
    memory_mib: int
    whole_node: bool
    left_s: float
    hosts: tuple[str, ...] = ()
