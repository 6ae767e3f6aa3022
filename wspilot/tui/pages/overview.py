"""The first page: everything about a workspace, group, VM, slot, node or event."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from wspilot.text import format_duration
from wspilot.tui import look
from wspilot.tui.live import SICK_NODES, Doc, LiveModel, plain
from wspilot.tui.pages.page import Page
from wspilot.tui.words import clock, left_of, moment, plural, size, worst

MOST_BARS = 24
MOST_EVENTS = 10
NEAR = {"soon": "warning", "now": "error"}
SITTING = ("pending", "provisioning")
_REACHED = ("running", "paused", "suspended", "stopped")


def overview(page: Page, model: LiveModel, key: str | None) -> None:
    """Write the page of a key."""
    table = (key or "").partition("/")[0]
    doc = model.doc(key or "")
    writers = {"workspaces": _workspace, "vms": _vm, "slots": _slot, "nodes": _node,
               "events": _event}  # fmt: skip
    if table == "groups":
        _group(page, model, key or "")
    elif key == SICK_NODES:
        _sick(page)
    elif doc is None:
        page.add("Nothing is selected.", "secondary")
    else:
        writers[table](page, model, doc)
    if key and table != "events":
        page.events(model.events_of(key, MOST_EVENTS))


def _workspace(page: Page, model: LiveModel, ws: Doc) -> None:
    page.title(ws["name"], ws)
    page.field("outcome", ws["outcome"])
    page.why(ws)
    vms = model.vms_of(f"workspaces/{ws['id']}")
    slots = model.slots_of(ws)
    if ws["state"] in SITTING:
        _barrier(page, ws, vms, slots)
    left, warn = left_of(ws, page.now)
    ends = f", ends {clock(ws['ends'])[:5]}" if left else ""
    page.field("lease", f"{format_duration(ws['lease_s'])}{ends}")
    page.field("left", left, NEAR.get(warn, ""))
    page.field("created", moment(ws["created"], page.now))
    page.field("rounds", f"{ws['rounds']} of asking again" if ws["rounds"] else "")
    for group in ws["groups"]:
        what = f"{group['count']} {group['type']}, {group['image']}"
        page.field("group", f"{group['name']}: {what}")
    page.field("id", ws["id"])
    _vm_phases(page, vms)
    page.phases("Slots", [(slot["id"], slot["spans"][:3]) for slot in slots])


def _barrier(page: Page, ws: Doc, vms: list[Doc], slots: list[Doc]) -> None:
    """All or nothing, as far as it has come."""
    least = sum(group.get("min", group["count"]) for group in ws["groups"])
    whole = least == len(vms)
    page.head("All or nothing" if whole else "At least the minimum, or nothing")
    held = sum(slot["state"] == "ready" for slot in slots)
    page.gauge("slots", held, len(slots), "held")
    page.gauge("VMs", sum(vm["state"] in _REACHED for vm in vms), least, "up")
    page.add(
        "The lease begins when the last one is up; if one cannot be, all are given back."
        if whole
        else f"The lease begins with {least} of {plural(len(vms), 'VM')}; with fewer all are "
        "given back.",
        "secondary",
    )
    page.text.append("\n")


def _group(page: Page, model: LiveModel, key: str) -> None:
    states = model.states_of(key)
    state = worst(states)
    name = key.split("/", 2)[2]
    ws = model.workspace_of(key)
    page.add(f"{ws['name']}/{name}" if ws else name, "foreground", bold=True)
    page.add(f"{look.glyph(state)} {state}", look.colour(state))
    for one, count in states.most_common():
        page.field(one, plural(count, "VM"))
    group = model.group(key)
    roles = group.get("roles") or {}
    page.field("type", group.get("type"))
    page.field("image", group.get("image"))
    page.field("networks", plain(group.get("nics") or ()))
    page.field("provides", plain(roles.get("provides") or ()))
    page.field("requires", plain(roles.get("requires") or ()))
    page.field("ready", group.get("ready"))
    page.field("placement", group.get("placement"))
    _vm_phases(page, model.vms_of(key))


def _vm(page: Page, model: LiveModel, vm: Doc) -> None:
    page.title(vm["name"], vm)
    if vm["unproven"]:
        page.field("proof", "unproven: only the process is known", "warning")
    page.field("doing", f"{vm['doing']} was asked for" if vm["doing"] else "", "primary")
    page.field("refused", vm["refused"], "warning")
    page.why(vm)
    page.field("phase", f"failed while {vm['phase']}" if vm["phase"] else "")
    page.field("node", vm["node"])
    for nic in vm["nics"]:
        page.field(str(nic.get("network", "")), f"{nic.get('ip')}  {nic.get('mac')}")
    page.field("type", f"{vm['type']}: {vm['cpus']} cpu, {size(vm['memory_mib'])}")
    page.field("image", vm["image"])
    said = {"ok": "success", "error": "error", "late": "warning"}.get(vm["context"], "")
    page.field("guest", " ".join(filter(None, (vm["context"], vm["said"]))), said)
    page.field("slot", vm["slot"])
    if vm["seen"]:
        page.field("seen", f"{clock(vm['seen'])} by {vm['seen_by']}")
    if vm["state"] == "terminated" and vm["held"]:
        page.field("addresses", "not free yet: its end is not proved", "warning")
    _proof(page, vm)
    page.field("id", vm["id"])
    page.phases("Phases", [("", vm["spans"])])


def _slot(page: Page, model: LiveModel, slot: Doc) -> None:
    page.title(f"slot {slot['id']}", slot)
    page.why(slot)
    lrm, ws = slot["lrm"], model.workspace_of(f"slots/{slot['id']}")
    page.field("workspace", ws["name"] if ws else "")
    page.field("job", f"{slot['job']} ({slot['name']})" if slot["job"] else "not known yet")
    said = " ".join(part for part in (lrm["state"], lrm["reason"]) if part)
    page.field("LRM says", f"{said} ({clock(lrm['at'])})" if said and lrm.get("at") else said)
    page.field("nodes", plain(slot["nodes"]) or f"{slot['count']} asked for")
    page.field("silent", plain(slot["unknown_nodes"]), "warning")
    count, memory = plural(slot["count"], "node"), size(slot["memory_mib"])
    page.field("asks", f"{count}, {plural(slot['ppn'], 'core')}, {memory} each")
    page.field("walltime", format_duration(slot["walltime_s"]))
    page.field("repairs", slot["repair_of"])
    page.field("measures", slot["measures"])
    page.field("again", f"slot {slot['again']} in its place" if slot["again"] else "")
    page.field("tries", f"{slot['tries']} of qsub" if slot["tries"] > 1 else "")
    if slot["cancel_tries"]:
        said = f": {slot['cancel_said']}" if slot["cancel_said"] else ""
        page.field("qdel", f"{plural(slot['cancel_tries'], 'time')}{said}")
    _proof(page, slot)
    nodes = _by_node(slot["spans"])
    page.phases(f"Phases{_more(nodes, 'nodes')}", nodes[:MOST_BARS])


def _by_node(spans: Sequence[Doc]) -> list[tuple[str, list[Doc]]]:
    """A bar for each node of a slot: what all of them share, then its own."""
    shared = [one for one in spans if not one.get("node")]
    own: dict[str, list[Doc]] = {}
    for one in spans:
        if one.get("node"):
            own.setdefault(str(one["node"]), []).append(one)
    return [(node, [*shared, *its]) for node, its in own.items()] or [("", shared)]


def _node(page: Page, model: LiveModel, node: Doc) -> None:
    page.title(f"node {node['name']}", node)
    page.field("cause", node["cause"], "warning")
    page.field("owes", "its word for " + plain(node["owes"]) if node["owes"] else "")
    page.field("repairs", f"{node['repair_tries']} so far" if node["repair_tries"] else "")
    if node["repair_at"] and node["state"] == "dirty":
        page.field("next", f"a repair job at {clock(node['repair_at'])}")
    page.field("slots", plain(node["slots"]))
    page.field("cpus", node["cpus"])
    page.field("memory", size(node["memory_mib"]))
    if node["memory_mib"]:
        taken = node["taken_mib"]
        page.field("taken", f"{size(taken)}, not given back yet" if taken else "nothing")
    page.field("KVM", {True: "yes", False: "no: guests are emulated"}.get(node["kvm"], ""))
    if node["skew_s"] is not None:
        page.field("clock", f"{node['skew_s']:+.2f} s, delivery included")
    page.field("seen", clock(node["seen"]) if node["seen"] else "")
    here = [vm for vm in model.items["vms"].values() if vm["node"] == node["name"]]
    living = [vm["name"] for vm in here if vm["state"] != "terminated"]
    page.field("VMs", plain(living[:12]) + (", ..." if len(living) > 12 else ""))
    if node["state"] == "dirty":
        page.head("What can be done")
        page.add(f"wspilot nodes repair {node['name']}   send its repair job now", "secondary")
        page.add(f"wspilot nodes forget {node['name']}   you vouch that it is clean", "secondary")


def _event(page: Page, model: LiveModel, event: Doc) -> None:
    page.add(event["text"], {"warning": "warning", "error": "error"}.get(event["level"], ""))
    page.text.append("\n")
    page.field("at", moment(event["at"], page.now))
    page.field("kind", event["kind"])
    page.field("level", event["level"])
    for table in ("workspace", "vm", "slot", "node"):
        if event[table]:
            doc = model.doc(f"{table}s/{event[table]}")
            page.field(table, doc["name"] if doc and doc["name"] else event[table])
    data = event["data"]
    if isinstance(data.get("argv"), list):
        page.head("The command, as it was run")
        page.add(shlex.join(str(word) for word in data["argv"]), "primary")
        page.field("exit", "hit its time limit" if data.get("timed_out") else str(data.get("rc")))
        page.field("took", f"{data.get('seconds')} s")


def _sick(page: Page) -> None:
    page.add("Nodes that are not clean", "foreground", bold=True)
    page.add(
        "A dirty node owes its word for a slot that ended without it. No new lease is placed "
        "there; a repair job of two minutes asks it. When you know that nothing of ours is "
        "left: wspilot nodes forget NODE; to send the repair now: wspilot nodes repair NODE.",
        "secondary",
    )


def _proof(page: Page, doc: Doc) -> None:
    proof = doc["proof"]
    if isinstance(proof, dict):
        page.field("came back", f"{proof.get('by')}: {proof.get('text')}")


def _vm_phases(page: Page, vms: list[Doc]) -> None:
    bars = [(f"{vm['group']}/{vm['index']}", vm["spans"]) for vm in vms[:MOST_BARS]]
    page.phases(f"VMs{_more(vms)}", bars)


def _more(every: Sequence[object], what: str = "") -> str:
    """Where not all are drawn."""
    of = f"{len(every)} {what}".strip()
    return f", the first {MOST_BARS} of {of}" if len(every) > MOST_BARS else ""
