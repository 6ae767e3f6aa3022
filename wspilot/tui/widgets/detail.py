"""Everything about the selected line: state, causes, addresses, and its phases as bars."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from textwrap import wrap
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.containers import VerticalScroll
from textual.widgets import Static

from wspilot.text import format_duration
from wspilot.tui import look
from wspilot.tui.live import SICK_NODES, LiveModel, clock, left_of, plural, since, size, told, worst

Doc = dict[str, Any]
LABEL = 10
MOST_BARS = 24
MOST_EVENTS = 10
SPAN_COLOURS = ("secondary", "primary", "accent", "success", "foreground", "error")


class Detail(VerticalScroll, can_focus=True):
    """Shows one key of the model; the arrows scroll it when it has the focus."""

    DEFAULT_CSS = """
    Detail { background: $surface; padding: 0 1; scrollbar-size-vertical: 1;
             scrollbar-background: $surface; }
    Detail > Static { width: 1fr; height: auto; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._text, self._page = Text(), Static("", markup=False)

    def compose(self) -> Any:
        yield self._page

    def show(self, model: LiveModel, key: str | None, now: float) -> None:
        """Draw the key as it is now."""
        colours = self.app.theme_variables
        width = max(16, self.scrollable_content_region.width - 1)
        drawing = _Page(lambda name: look.style(colours.get(name, "")), width, now)
        text = drawing.draw(model, key)
        if text != self._text:  # a second later it is mostly the same
            grown = str(text).count("\n") != str(self._text).count("\n")
            self._text = text
            self._page.update(text, layout=grown)


class _Page:
    """One drawing."""

    def __init__(self, colour: Callable[[str], str], width: int, now: float) -> None:
        self._colour, self._width, self._now = colour, width, now
        self._text = Text(no_wrap=False, overflow="fold")

    def draw(self, model: LiveModel, key: str | None) -> Text:
        table, _, id = (key or "").partition("/")
        doc = model.items.get(table, {}).get(id)
        if table == "groups":
            self._group(model, key or "")
        elif key == SICK_NODES:
            self._sick(model)
        elif doc is None:
            self._add("Nothing is selected.", "secondary")
        elif table == "workspaces":
            self._workspace(model, doc)
        elif table == "vms":
            self._vm(doc)
        elif table == "nodes":
            self._node(doc)
        else:
            self._slot(doc)
        if key:
            self._events(model.events_of(key, MOST_EVENTS))
        return self._text

    # -- one a kind

    def _workspace(self, model: LiveModel, ws: Doc) -> None:
        self._title(ws["name"], ws)
        self._field("outcome", ws["outcome"])
        self._why(ws)
        left, warn = left_of(ws, self._now)
        lease = format_duration(ws["lease_s"])
        ends = f", ends {clock(ws['ends'])[:5]}" if left else ""
        self._field("lease", f"{lease}{ends}")
        self._field("left", left, "warning" if warn else "")
        for group in ws["groups"]:
            what = f"{group['count']} {group['type']}, {group['image']}"
            self._field("group", f"{group['name']}: {what}")
        self._field("id", ws["id"])
        vms = [model.items["vms"][id] for id in ws["vms"] if id in model.items["vms"]]
        self._vm_phases(vms)
        slots = [model.items["slots"][id] for id in ws["slots"] if id in model.items["slots"]]
        self._phases("Slots", [(slot["id"], slot["spans"][:3]) for slot in slots])

    def _group(self, model: LiveModel, key: str) -> None:
        states = model.states_of(key)
        state = worst(states)
        self._add(key.split("/", 2)[2], "foreground", bold=True)
        self._add(f"{look.glyph(state)} {state}", look.colour(state))
        for name, count in states.most_common():
            self._field(name, plural(count, "VM"))
        self._vm_phases(model.vms_of(key))

    def _vm(self, vm: Doc) -> None:
        self._title(vm["name"], vm)
        if vm["unproven"]:
            self._field("proof", "unproven: only the process is known", "warning")
        self._why(vm)
        self._field("phase", f"failed while {vm['phase']}" if vm["phase"] else "")
        self._field("node", vm["node"])
        for nic in vm["nics"]:
            self._field(str(nic.get("network", "")), f"{nic.get('ip')}  {nic.get('mac')}")
        self._field("type", f"{vm['type']}: {vm['cpus']} cpu, {size(vm['memory_mib'])}")
        self._field("image", vm["image"])
        self._field("slot", vm["slot"])
        if vm["seen"]:
            self._field("seen", f"{clock(vm['seen'])} by {vm['seen_by']}")
        self._field("id", vm["id"])
        self._phases("Phases", [("", vm["spans"])])

    def _slot(self, slot: Doc) -> None:
        self._title(f"slot {slot['id']}", slot)
        self._why(slot)
        lrm = slot["lrm"]
        self._field("job", f"{slot['job']} ({slot['name']})" if slot["job"] else "not known yet")
        self._field("LRM says", " ".join(part for part in (lrm["state"], lrm["reason"]) if part))
        self._field("nodes", ", ".join(slot["nodes"]) or f"{slot['count']} asked for")
        count, memory = plural(slot["count"], "node"), size(slot["memory_mib"])
        self._field("asks", f"{count}, {plural(slot['ppn'], 'core')}, {memory} each")
        self._field("walltime", format_duration(slot["walltime_s"]))
        self._field("repairs", slot["repair_of"])
        self._field("again", f"slot {slot['again']} in its place" if slot["again"] else "")
        self._field("tries", f"{slot['tries']} of qsub" if slot["tries"] > 1 else "")
        if slot["cancel_tries"]:
            said = f": {slot['cancel_said']}" if slot["cancel_said"] else ""
            self._field("qdel", f"{plural(slot['cancel_tries'], 'time')}{said}")
        self._phases("Phases", [("", slot["spans"])])

    def _node(self, node: Doc) -> None:
        self._title(f"node {node['name']}", node)
        self._field("cause", node["cause"], "warning")
        self._field("owes", "its word for " + ", ".join(node["owes"]) if node["owes"] else "")
        self._field("repairs", f"{node['repair_tries']} so far" if node["repair_tries"] else "")
        if node["repair_at"] and node["state"] == "dirty":
            self._field("next", f"a repair job at {clock(node['repair_at'])}")
        self._field("slots", ", ".join(node["slots"]))
        self._field("memory", size(node["memory_mib"]) if node["memory_mib"] else "")
        self._field("taken", size(node["taken_mib"]) if node["taken_mib"] else "")
        if node["skew_s"] is not None:
            self._field("clock", f"{node['skew_s']:+.2f} s, delivery included")
        self._field("seen", clock(node["seen"]) if node["seen"] else "")

    def _sick(self, model: LiveModel) -> None:
        self._add("Nodes that are not clean", "foreground", bold=True)
        self._add(
            "A dirty node owes its word for a slot that ended without it. No new lease is placed "
            "there; a repair job of two minutes asks it. When you know that nothing of ours is "
            "left: wspilot nodes forget NODE; to send the repair now: wspilot nodes repair NODE.",
            "secondary",
        )

    # -- parts

    def _title(self, name: str, doc: Doc) -> None:
        self._add(name, "foreground", bold=True)
        state = doc["state"]
        self._add(f"{look.glyph(state)} {state} for {since(doc, self._now)}", look.colour(state))

    def _why(self, doc: Doc) -> None:
        if doc["waits_for"]:
            self._field("waits for", f"{doc['waits_for']}, for {since(doc, self._now)}")
        bad = "error" if doc["state"] in ("failed", "ended") else "warning"
        self._field("cause", doc["cause"], bad)
        for cause in doc["causes"]:
            if cause != doc["cause"]:
                self._field("because", cause)

    def _field(self, label: str, value: Any, colour: str = "") -> None:
        """A label and its value; what is too long goes on below the value."""
        if not value:
            return
        room = max(8, self._width - LABEL - 1)
        lines = wrap(str(value), room, break_long_words=True)
        for n, line in enumerate(lines):
            self._text.append(f"{label if n == 0 else '':{LABEL}} ", self._colour("secondary"))
            self._text.append(f"{line}\n", self._colour(colour) if colour else "")

    def _events(self, events: list[Doc]) -> None:
        if not events:
            return
        self._text.append("\n")
        self._add("Events", "foreground", bold=True)
        for event in events:
            colour = {"warning": "warning", "error": "error"}.get(event["level"], "")
            for n, line in enumerate(wrap(told(event), max(8, self._width - 9)) or [""]):
                time = clock(event["at"]) if n == 0 else " " * 8
                self._text.append(f"{time} ", self._colour("secondary"))
                self._text.append(f"{line}\n", self._colour(colour) if colour else "")

    def _add(self, text: str, colour: str, bold: bool = False) -> None:
        style = self._colour(colour)
        self._text.append(f"{text}\n", f"bold {style}" if bold else style)

    def _vm_phases(self, vms: list[Doc]) -> None:
        shown = vms[:MOST_BARS]
        more = f", the first {MOST_BARS} of {len(vms)}" if len(vms) > len(shown) else ""
        self._phases(f"VMs{more}", [(f"{vm['group']}/{vm['index']}", vm["spans"]) for vm in shown])

    def _phases(self, title: str, lines: Iterable[tuple[str, list[Doc]]]) -> None:
        """Stacked bars on one scale, like the paper's figures 2 to 5."""
        drawn = [
            (name, [span for span in spans if span["seconds"] is not None]) for name, spans in lines
        ]
        drawn = [(name, spans) for name, spans in drawn if spans]
        if not drawn:
            return
        self._text.append("\n")
        self._add(title, "foreground", bold=True)
        longest = max(sum(span["seconds"] for span in spans) for _, spans in drawn)
        label = min(14, max(cell_len(name) for name, _ in drawn))
        room = max(8, self._width - label - 9)
        names = list(dict.fromkeys(span["name"] for _, spans in drawn for span in spans))
        for name, spans in drawn:
            head = set_cell_size(name, label) + " " if label else ""
            self._bar(head, spans, names, room / max(longest, 0.001))
        self._legend(names, drawn)

    def _bar(self, label: str, spans: list[Doc], names: list[str], scale: float) -> None:
        self._text.append(label, self._colour("secondary"))
        done, drawn = 0.0, 0
        for span in spans:
            done += span["seconds"]
            cells = round(done * scale) - drawn
            drawn += cells
            bar = look.bar(names.index(span["name"]))
            self._text.append(bar * cells, self._span_colour(names, span["name"]))
        self._text.append(f" {done:.1f} s\n")

    def _legend(self, names: list[str], drawn: list[tuple[str, list[Doc]]]) -> None:
        """One line a phase: its colour, its name, its mean."""
        mean_of = f"   mean of {len(drawn)}" if len(drawn) > 1 else ""
        for name in names:
            values = [
                span["seconds"] for _, spans in drawn for span in spans if span["name"] == name
            ]
            mean = sum(values) / len(values)
            self._text.append(f"{look.bar(names.index(name))} ", self._span_colour(names, name))
            self._text.append(f"{name:10} {mean:7.2f} s{mean_of}\n", self._colour("secondary"))

    def _span_colour(self, names: list[str], name: str) -> str:
        return self._colour(SPAN_COLOURS[names.index(name) % len(SPAN_COLOURS)])
