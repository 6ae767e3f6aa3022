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
    abandon = _abandon(model, targets)
    if len(targets) == 1:
        target = targets[0]
        typed = target.name if spaces or len(vms) > BUTTON_IS_ENOUGH else ""
        return Loss(f"Destroy the {target.title}", tuple(lines), typed, abandon)
    what = f"{plural(len(targets), 'marked line')}"
    typed = f"destroy {len(targets)}" if spaces or len(vms) > BUTTON_IS_ENOUGH else ""
    return Loss(f"Destroy {what}", tuple(lines), typed, abandon)


def _abandon(model: LiveModel, targets: tuple[Target, ...]) -> str:
    """Only of whole workspaces, and only where a node is silent."""
    spaces = [model.workspace_of(one.key) for one in targets if one.kind == "workspace"]
    if len(spaces) != len(targets):
        return ""
    silent = [node for ws in spaces if ws for node in model.silent_nodes(ws)]
    if not silent:
        return ""
    names = ", ".join(silent[:4]) + (", ..." if len(silent) > 4 else "")
    return (f"{names}: nobody has heard from there, so the end may never be proved. Abandon closes "
            "the books without proof: such nodes stay dirty, their addresses are withheld, and "
            "VMs there may go on until the job ends.")  # fmt: skip
