"""Policy `reuse`: a held slot that serves nobody is used before the batch system is asked.

Pure. Only spare slots are used, each by one workspace at a time: two workspaces that shared a slot
would share its end, its picture and its private networks (docs/decisions.md, 38).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wspilot.daemon.policy.plans import SlotPlan, Spare


def reuse(
    plans: Sequence[SlotPlan], spares: Sequence[Spare], need_s: float, gather_s: float
) -> tuple[SlotPlan, ...]:
    """The same plans, with spare slots in place of what need not be asked for.

    `need_s` is how long a slot must still stand; `gather_s` is added where not everything is there
    already, since what is there then waits for what is asked for.
    """
    whole = _replaced(plans, spares, need_s)
    if all(plan.held for plan in whole):
        return whole
    return _replaced(plans, spares, need_s + gather_s)


def _replaced(
    plans: Sequence[SlotPlan], spares: Sequence[Spare], need_s: float
) -> tuple[SlotPlan, ...]:
    left = [spare for spare in spares if spare.left_s >= need_s]
    hosts: set[str] = set()
    found: dict[int, list[SlotPlan]] = {}
    largest = sorted(range(len(plans)), key=lambda n: (-plans[n].memory_mib, -plans[n].ppn, n))
    for n in largest:  # small ones fit into what is left, large ones do not
        whole = _best(plans[n], left, hosts, plans[n].nodes)
        if whole is not None:
            _use(whole, left, hosts)
            found[n] = [replace(plans[n], held=whole.id)]
        else:
            found[n] = _by_node(plans[n], left, hosts)
    return tuple(plan for n in range(len(plans)) for plan in found[n])


def _best(plan: SlotPlan, left: Sequence[Spare], hosts: set[str], nodes: int) -> Spare | None:
    """The smallest spare of so many nodes that fits; of equal ones the one that ends first."""
    fits = [
        spare
        for spare in left
        if spare.nodes == nodes
        and spare.ppn >= plan.ppn
        and spare.memory_mib >= plan.memory_mib
        and spare.whole_node >= plan.whole_node
        and not (plan.whole_node and hosts & set(spare.hosts))
    ]
    return min(fits, key=_size, default=None)


def _size(spare: Spare) -> tuple[int, int, float, str]:
    return spare.memory_mib, spare.ppn, spare.left_s, spare.id


def _by_node(plan: SlotPlan, left: list[Spare], hosts: set[str]) -> list[SlotPlan]:
    """Node by node: those for which there is a spare, and one slot for the rest."""
    each = -(-len(plan.members) // plan.nodes)
    parts, members, nodes = [], plan.members, plan.nodes
    while nodes and (spare := _best(plan, left, hosts, 1)) is not None:
        _use(spare, left, hosts)
        parts.append(replace(plan, members=members[:each], nodes=1, held=spare.id))
        members, nodes = members[each:], nodes - 1
        if not members:
            return parts
    return [*parts, replace(plan, members=members, nodes=nodes)]


def _use(spare: Spare, left: list[Spare], hosts: set[str]) -> None:
    left.remove(spare)
    hosts.update(spare.hosts)
