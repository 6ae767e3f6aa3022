"""Policy `exact`, the paper's default: the smallest slots that fit, one VM a node.

Pure. `per-workspace` makes one slot of each set of nodes with equal needs, so that a heterogeneous
ensemble is not flattened to its largest member; `per-node` makes a slot of each node.
"""

from __future__ import annotations

from collections.abc import Callable

from wspilot.config import Site
from wspilot.daemon.policy.plans import Member, SlotPlan
from wspilot.ensemble import Request
from wspilot.errors import UsageError
from wspilot.model import Group
from wspilot.text import format_size


def plan(
    request: Request,
    site: Site,
    overhead_mib: Callable[[Group], int],
    grace_s: Callable[[int], float],
) -> tuple[SlotPlan, ...]:
    """The slots of a request. Raises UsageError where no node is large enough, or too few are.

    `overhead_mib` is what the VMM needs beside one VM of a group, `grace_s` what the batch system
    gives a job of so many nodes.
    """
    sets: dict[tuple[int, int, str], list[Member]] = {}
    for group in request.groups:
        need = (group.cpus, group.memory_mib + overhead_mib(group), group.placement)
        members = [(group.name, n) for n in range(1, group.count + 1)]
        sets.setdefault(need, []).extend(members)
    per_node = jobs_of(site, grace_s) == "per-node"
    plans: list[SlotPlan] = []
    for (cpus, memory, placement), members in sets.items():
        _check(site, cpus, memory, members[0][0])
        each = _on_one(site, cpus, memory) if placement == "pack" else 1
        size = each if per_node else len(members)
        for first in range(0, len(members), size):
            part = tuple(members[first : first + size])
            nodes = -(-len(part) // each)
            here = -(-len(part) // nodes)  # evenly, as the core fills them
            cores = cpus * here
            if placement == "spread" and site.lrm == "torque" and site.node_cpus:
                cores = site.node_cpus  # Torque knows a whole node only by all of its cores
            plans.append(SlotPlan(part, nodes, cores, memory * here, placement == "spread"))
    _check_nodes(site, plans)
    return tuple(plans)


def overhead_mib(vmm: str, memory_mib: int) -> int:
    """MiB that a VM needs on its node beside its guest's memory (measured: docs/decisions.md)."""
    return {"qemu": 128 + memory_mib // 16, "xen": 16 + memory_mib // 128}.get(vmm, 0)


def jobs_of(site: Site, grace_s: Callable[[int], float]) -> str:
    """`per-node` or `per-workspace`, as the site says, else DESIGN.md section 5's default."""
    if site.jobs:
        return site.jobs
    return "per-node" if site.adapter == "balloon" and grace_s(2) < 1 else "per-workspace"


def _on_one(site: Site, cpus: int, memory: int) -> int:
    """How many such VMs fit on one node; one where the site does not say how large nodes are."""
    if not site.node_cpus or not site.node_memory_mib:
        return 1
    return max(1, min(site.node_cpus // cpus, site.node_memory_mib // memory))


def _check(site: Site, cpus: int, memory: int, group: str) -> None:
    if site.node_cpus and cpus > site.node_cpus:
        raise UsageError(
            f"group {group}: {cpus} cpus are more than the {site.node_cpus} of any node",
            "use a smaller type",
        )
    if site.node_memory_mib and memory > site.node_memory_mib:
        raise UsageError(
            f"group {group}: {format_size(memory)} with the VMM's overhead are more than the "
            f"{format_size(site.node_memory_mib)} of any node",
            "use a smaller type",
        )


def _check_nodes(site: Site, plans: list[SlotPlan]) -> None:
    """Refuse what can never run at once. Packed slots may share nodes with each other only."""
    whole = sum(plan.nodes for plan in plans if plan.whole_node)
    packed = [plan for plan in plans if not plan.whole_node]
    shared = max((plan.nodes for plan in packed), default=0)
    for have, share in ((site.node_cpus, "ppn"), (site.node_memory_mib, "memory_mib")):
        if have:
            need = sum(plan.nodes * int(getattr(plan, share)) for plan in packed)
            shared = max(shared, -(-need // have))
    if site.nodes is not None and whole + shared > site.nodes:
        raise UsageError(
            f"this needs {whole + shared} nodes at once; the site has {site.nodes}",
            "ask for fewer VMs, or for a smaller type",
        )
