"""What an act on the selection would concern, and what destroying it would lose: in words."""

from __future__ import annotations

from dataclasses import dataclass

from wspilot.tui.live import LiveModel, left_of, plural


@dataclass(frozen=True)
class Loss:
    """A workspace, a group or a VM, captured when the key was pressed."""

    target: str  # what is sent to the daemon: an id, or WORKSPACE/GROUP
    kind: str  # workspace, group, VM
    name: str
    lines: tuple[str, ...]
    type_name: str = ""  # this must be typed; empty: a button is enough

    @property
    def title(self) -> str:
        """What would be done."""
        return f"Destroy the {self.kind} {self.name}"


def loss_of(model: LiveModel, key: str | None, now: float) -> Loss | None:
    """What stands at `key`; None where there is nothing that is not over. `now`: since 1970."""
    ws = model.workspace_of(key or "")
    vms = [vm for vm in model.vms_of(key or "") if vm["state"] != "terminated"]
    if key is None or ws is None or ws["state"] == "ended":
        return None
    if not vms and not key.startswith("workspaces/"):
        return None
    left, _ = left_of(ws, now)
    names = ", ".join(f"{vm['group']}/{vm['index']}" for vm in vms[:8])
    names += ", ..." if len(vms) > 8 else ""
    lines = (
        f"{plural(len(vms), 'VM')}: {names}" if vms else "It has no VMs.",
        "What is on their disks is lost; their nodes go back to jobs.",
        f"Of the lease {left} are left." if left else f"It is {ws['state']}.",
    )
    if key.startswith("workspaces/"):
        return Loss(ws["id"], "workspace", ws["name"], lines, ws["name"])
    if key.startswith("groups/"):
        group = key.split("/", 2)[2]
        return Loss(f"{ws['id']}/{group}", "group", f"{ws['name']}/{group}", lines)
    return Loss(vms[0]["id"], "VM", vms[0]["name"], lines)
