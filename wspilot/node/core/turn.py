"""One step of the pilot's core: the state as it becomes, the moment, and the effects asked for."""

from __future__ import annotations

from typing import Any

from wspilot.messages import Kind
from wspilot.model import VM_MOVES, Span, VmState, to_doc
from wspilot.node.core.events import Effect
from wspilot.node.core.state import Phase, State, Vm
from wspilot.node.values import replace
from wspilot.text import clean


class Turn:
    """The working values of one step; discarded after it."""

    def __init__(self, state: State, now: float) -> None:
        self.state = state
        self.now = now
        self.effects: list[Effect] = []

    def do(self, effect: Effect) -> None:
        """Ask the shell for something."""
        self.effects.append(effect)

    def set(self, **change: Any) -> State:
        """Change the state."""
        self.state = replace(self.state, **change)
        return self.state

    def say(self, kind: Kind, **data: Any) -> None:
        """A notification; it gets its number when the courier has room for it."""
        state = self.state
        mono = self.now - state.started
        self.set(mail=state.mail.post(kind, state.wall(self.now), mono, data))

    def log(self, level: str, text: str) -> None:
        """A line for people."""
        self.say(Kind.LOG, level=level, text=clean(text, 1000))

    def phase(self, phase: Phase) -> None:
        """The pilot enters another phase."""
        if phase is not self.state.phase:
            self.set(phase=phase, since=self.now)

    # -- VMs

    def move(self, vm: Vm, state: VmState, span: str = "", **change: Any) -> Vm:
        """Move a VM along the table, end the span that runs, begin `span`, and report it whole.

        A move that the table does not know leaves the state alone: a late word.
        """
        moved = state is not vm.state and state in VM_MOVES[vm.state]
        if moved:
            vm = self.next_span(vm, span)
            change = {"boot_by": None, "progress": None, **change, "state": state}
        vm = replace(vm, **change)
        self.state = self.state.with_vm(vm)
        if moved:
            self.say(Kind.VM, **vm.report().to_data())
        return vm

    def next_span(self, vm: Vm, span: str = "") -> Vm:
        """The running span ends now; `span`, where given, begins."""
        done = vm.spans
        if vm.open is not None:
            name, since = vm.open
            ended = Span(name, self.state.wall(since), round(self.now - since, 6), "node")
            done = (*done, ended)
        return replace(vm, spans=done, open=(span, self.now) if span else None)

    def put(self, vm: Vm, **change: Any) -> Vm:
        """Change what is known of a VM without telling anybody."""
        vm = replace(vm, **change)
        self.state = self.state.with_vm(vm)
        return vm

    def span_docs(self, name: str) -> list[dict[str, Any]]:
        """The pilot's own spans of that name, as they travel."""
        return [to_doc(span) for span in self.state.spans if span.name == name]
