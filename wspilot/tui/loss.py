"""What destroying would lose, in words."""

from __future__ import annotations

from dataclasses import dataclass

from wspilot.tui.acting import Target
from wspilot.tui.live import LiveModel
from wspilot.tui.words import left_of, plural

BUTTON_IS_ENOUGH = 4  # VMs; for more, and for every workspace, something is typed


@dataclass(frozen=True)
class Loss:
    """Said before it is done."""

    title: str
    lines: tuple[str, ...]
    typed: str = ""  # this must be typed; empty: a button is enough
    abandon: str = ""  # what giving up on proof would mean; empty: there is no need to
    silent: frozenset[str] = frozenset()  # lines of the targets for which it would be given up


def loss_of(model: LiveModel, targets: tuple[Target, ...], now: float) -> Loss:
    """What is lost with these. `now`: seconds since 1970."""
    vms = [vm for one in targets for vm in model.vms_of(one.key) if vm["state"] != "terminated"]
    names = ", ".join(vm["name"] for vm in vms[:6])
    names += f", and {len(vms) - 6} more" if len(vms) > 6 else ""
    lines = [f"{plural(len(vms), 'VM')}: {names}" if vms else "It has no VMs.",
             "What is on their disks is lost; their nodes go back to jobs. "
             "It cannot be taken back."]  # fmt: skip
    spaces = [one for one in targets if one.kind == "workspace"]
    for key in dict.fromkeys(one.key for one in targets[:5]):
        ws = model.workspace_of(key)
        if ws is not None:
            left, _ = left_of(ws, now)
            state = f"of its lease {left} are left" if left else f"it is {ws['state']}"
            lines.append(f"{ws['name']}: {state}")
    lines = list(dict.fromkeys(lines))
    silent = _silent(model, targets)
    abandon = _abandon(silent, len(targets)) if silent else ""
    keys = frozenset(one.key for one in silent)
    if len(targets) == 1:
        target = targets[0]
        typed = target.name if spaces or len(vms) > BUTTON_IS_ENOUGH else ""
        return Loss(f"Destroy the {target.title}", tuple(lines), typed, abandon, keys)
    what = f"{plural(len(targets), 'marked line')}"
    typed = f"destroy {len(targets)}" if spaces or len(vms) > BUTTON_IS_ENOUGH else ""
    return Loss(f"Destroy {what}", tuple(lines), typed, abandon, keys)


def _silent(model: LiveModel, targets: tuple[Target, ...]) -> dict[Target, list[str]]:
    """Who has nodes that are silent, and which. Only whole workspaces can be abandoned."""
    spaces = {one: model.workspace_of(one.key) for one in targets if one.kind == "workspace"}
    if len(spaces) != len(targets):
        return {}
    nodes = {one: model.silent_nodes(ws) for one, ws in spaces.items() if ws}
    return {one: found for one, found in nodes.items() if found}


def _abandon(silent: dict[Target, list[str]], of: int) -> str:
    """What it means, and for whom where it is not for all."""
    nodes = list(dict.fromkeys(node for found in silent.values() for node in found))
    whose = "" if len(silent) == of else f" of {_some([one.name for one in silent])} alone"
    return (f"{_some(nodes)}: nobody has heard from there, so the end may never be proved. Abandon "
            f"closes the books{whose} without proof: such nodes stay dirty, their addresses are "
            "withheld, and VMs there may go on until the job ends.")  # fmt: skip


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
