"""Everything about the selected line: state, causes, addresses, and its phases as bars."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rich.text import Text
from textual.containers import VerticalScroll
from textual.widgets import Static

from wspilot.text import format_duration
from wspilot.tui import look
from wspilot.tui.live import LiveModel, left_of, since, size, worst

Doc = dict[str, Any]
LABEL = 11
SPAN_COLOURS = ("secondary", "accent", "success", "primary", "error", "foreground")


class Detail(VerticalScroll, can_focus=False):
    """Shows one key of the model."""

    DEFAULT_CSS = """
    Detail { background: $surface; padding: 0 1; scrollbar-size-vertical: 1; }
    Detail > Static { width: 1fr; height: auto; }
    """

    def compose(self) -> Any:
        yield Static("", markup=False)

    def show(self, model: LiveModel, key: str | None, now: float) -> None:
        """Draw the key as it is now."""
        colours = self.app.theme_variables
        page = _Page(lambda name: colours.get(name, ""), max(20, self.size.width - 4), now)
        self.query_one(Static).update(page.draw(model, key))


class _Page:
    """One drawing."""

    def __init__(self, colour: Callable[[str], str], width: int, now: float) -> None:
        self._colour, self._width, self._now = colour, width, now
        self._text = Text(no_wrap=False, overflow="fold")

    def draw(self, model: LiveModel, key: str | None) -> Text:
        table, _, id = (key or "").partition("/")
        doc = model.items.get(table, {}).get(id)
        if table == "groups":
            self._group(model, key or "", id)
        elif doc is None:
            self._add("Nothing is selected.", "secondary")
        elif table == "workspaces":
            self._workspace(model, doc)
        elif table == "vms":
            self._vm(model, doc)
        else:
            self._slot(doc)
        return self._text

    # -- one a kind

    def _workspace(self, model: LiveModel, ws: Doc) -> None:
        self._title(ws["name"], ws)
        left, _ = left_of(ws, self._now)
        self._field(
            "lease", f"{format_duration(ws['lease_s'])}" + (f", left {left}" if left else "")
        )
        self._field("outcome", ws["outcome"])
        self._why(ws)
        self._field("id", ws["id"])
        vms = [model.items["vms"][id] for id in ws["vms"] if id in model.items["vms"]]
        self._phases(
            "VM phases, one bar a VM",
            [(f"{vm['group']}/{vm['index']}", vm["spans"]) for vm in vms[:16]],
        )
        slots = [model.items["slots"][id] for id in ws["slots"] if id in model.items["slots"]]
        self._phases("Slot phases", [(slot["id"], slot["spans"][:3]) for slot in slots])

    def _group(self, model: LiveModel, key: str, id: str) -> None:
        vms = model.vms_of(key)
        name = id.replace("/", " / ", 1)
        state = worst([vm["state"] for vm in vms])
        self._add(name.split(" / ")[-1], "foreground", bold=True)
        self._add(f"{look.glyph(state)} {state}", look.colour(state))
        self._phases(
            "VM phases, one bar a VM",
            [(f"{vm['group']}/{vm['index']}", vm["spans"]) for vm in vms[:24]],
        )

    def _vm(self, model: LiveModel, vm: Doc) -> None:
        self._title(vm["name"], vm)
        if vm["unproven"]:
            self._field("proof", "unproven: only the process is known")
        self._why(vm)
        self._field("phase", f"failed while {vm['phase']}" if vm["phase"] else "")
        self._field("node", vm["node"])
        for nic in vm["nics"]:
            self._field(nic["network"], f"{nic['ip']}  {nic['mac']}")
        self._field("type", f"{vm['type']}: {vm['cpus']} cpu, {size(vm['memory_mib'])}")
        self._field("image", vm["image"])
        self._field("slot", vm["slot"])
        if vm["seen"]:
            self._field("seen", f"{vm['seen'][11:19]} UTC by {vm['seen_by']}")
        self._field("id", vm["id"])
        self._phases("Phases", [("", vm["spans"])])

    def _slot(self, slot: Doc) -> None:
        self._title(f"slot {slot['id']}", slot)
        self._why(slot)
        lrm = slot["lrm"]
        self._field("job", f"{slot['job']} ({slot['name']})" if slot["job"] else "not known yet")
        self._field("LRM says", " ".join(part for part in (lrm["state"], lrm["reason"]) if part))
        self._field("nodes", ", ".join(slot["nodes"]) or f"{slot['count']} asked for")
        self._field(
            "asks", f"{slot['count']} nodes, {slot['ppn']} cores, {size(slot['memory_mib'])} each"
        )
        self._field("walltime", format_duration(slot["walltime_s"]))
        self._phases("Phases", [("", slot["spans"])])

    # -- parts

    def _title(self, name: str, doc: Doc) -> None:
        self._add(name, "foreground", bold=True)
        state = doc["state"]
        self._add(f"{look.glyph(state)} {state} for {since(doc, self._now)}", look.colour(state))

    def _why(self, doc: Doc) -> None:
        self._field("waits for", doc["waits_for"])
        self._field("cause", doc["cause"])
        for cause in doc.get("causes", ()):
            if cause != doc["cause"]:
                self._field("because", cause)

    def _field(self, label: str, value: Any) -> None:
        if value:
            self._text.append(f"{label:{LABEL}}", self._colour("secondary"))
            self._text.append(f"{value}\n")

    def _add(self, text: str, colour: str, bold: bool = False) -> None:
        style = self._colour(colour)
        self._text.append(f"{text}\n", f"bold {style}" if bold else style)

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
        label = max(len(name) for name, _ in drawn)
        room = max(8, self._width - label - 9)
        names = list(dict.fromkeys(span["name"] for _, spans in drawn for span in spans))
        for name, spans in drawn:
            self._bar(f"{name:{label}} " if label else "", spans, names, room / max(longest, 0.001))
        self._legend(names, drawn)

    def _bar(self, label: str, spans: list[Doc], names: list[str], scale: float) -> None:
        bar = look.tree_marks()[2]
        self._text.append(label, self._colour("secondary"))
        done, drawn = 0.0, 0
        for span in spans:
            done += span["seconds"]
            cells = round(done * scale) - drawn
            drawn += cells
            self._text.append(bar * cells, self._span_colour(names, span["name"]))
        self._text.append(f" {done:.1f} s\n")

    def _legend(self, names: list[str], drawn: list[tuple[str, list[Doc]]]) -> None:
        bar = look.tree_marks()[2]
        for name in names:
            values = [
                span["seconds"] for _, spans in drawn for span in spans if span["name"] == name
            ]
            mean = sum(values) / len(values)
            self._text.append(f"{bar} ", self._span_colour(names, name))
            self._text.append(
                f"{name} {mean:.2f} s" + ("   " if name != names[-1] else "\n"),
                self._colour("secondary"),
            )

    def _span_colour(self, names: list[str], name: str) -> str:
        return self._colour(SPAN_COLOURS[names.index(name) % len(SPAN_COLOURS)])
