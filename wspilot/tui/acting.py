"""Verbs from the interface: the same requests as the command line's, and their outcome in words.

Everything runs in workers: the screen never waits for the daemon. A target is captured by its id
when the key is pressed, and several are asked for one by one, so that one refusal stops no other.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wspilot.asks import act
from wspilot.errors import NoDaemon, TimedOut, WspilotError
from wspilot.text import clean
from wspilot.tui.live import LiveModel
from wspilot.tui.source import Source

DONE_S = 120.0  # beyond that it is told that it goes on
AT_ONCE = 8
Tell = Callable[[str, str], None]  # (words, level)


@dataclass(frozen=True)
class Target:
    """Whom a verb is for."""

    id: str  # what is sent to the daemon: an id, or WORKSPACE/GROUP
    kind: str  # workspace, group, VM
    name: str
    key: str = ""  # its line
    states: frozenset[str] = frozenset()  # of its VMs

    @property
    def title(self) -> str:
        """`workspace osg`."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Verb:
    """What can be asked for; `fits`: VM states in which it makes sense, empty: always."""

    name: str
    key: str
    text: str
    fits: frozenset[str] = frozenset()
    of: str = ""  # "VM": one VM only; "workspace": workspaces only
    goal: str = "done"  # what is waited for; empty: nothing


def _states(text: str) -> frozenset[str]:
    return frozenset(text.split())


VERBS: Mapping[str, Verb] = {
    one.name: one
    for one in (
        Verb("pause", "p", "stand still, in memory", _states("running")),
        Verb("resume", "r", "go on, from memory or from disk", _states("paused suspended")),
        Verb("suspend", "s", "sleep on the node's disk", _states("running paused")),
        Verb("stop", "o", "shut down; the disk stays", _states("running paused booting")),
        Verb("start", "a", "boot again", _states("stopped")),
        Verb("reboot", "b", "shut down and boot again", _states("running booting")),
        Verb("extend", "x", "make the lease longer", of="workspace", goal=""),
        Verb("console", "c", "its console, in this terminal", of="VM"),
        Verb("ssh", "h", "log in, through its pilot", of="VM"),
        Verb("save", "i", "keep its disk as a new image", of="VM"),
        Verb("destroy", "d", "end it; asks first", goal="ended"),
    )
}


@dataclass(frozen=True)
class Order:
    """A verb for its targets, with what else it needs (`by`, `image`; `abandon`: whose lines)."""

    verb: str
    targets: tuple[Target, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)

    def params(self, target: Target) -> dict[str, Any]:
        """The request for one target, as the command line makes it."""
        more = dict(self.extra)
        if self.verb == "destroy":  # nobody gives up on the proof of what can be proved
            more["abandon"] = target.key in more.get("abandon", ())
        return act(self.verb, [target.id], **more)

    def command(self) -> str:
        """The same on the command line."""
        names = [target.name for target in self.targets]
        if self.verb == "extend":
            by = self.extra.get("by", "30m")
            return " && ".join(shlex.join(["wspilot", "extend", one, "--by", by]) for one in names)
        words = ["wspilot", self.verb, *names]
        if self.verb == "save":
            words.append(self.extra.get("image", "IMAGE"))
        if self.verb == "destroy":
            words.append("--yes")
        return shlex.join(words)


def target_of(model: LiveModel, key: str | None) -> Target | None:
    """What stands at a line; None where there is nothing that is not over."""
    ws = model.workspace_of(key or "")
    vms = [vm for vm in model.vms_of(key or "") if vm["state"] != "terminated"]
    if key is None or ws is None or ws["state"] == "ended":
        return None
    states = frozenset(str(vm["state"]) for vm in vms)
    if key.startswith("workspaces/"):
        return Target(ws["id"], "workspace", ws["name"], key, states)
    if not vms:
        return None
    if key.startswith("groups/"):
        group = key.split("/", 2)[2]
        return Target(f"{ws['id']}/{group}", "group", f"{ws['name']}/{group}", key, states)
    return Target(vms[0]["id"], "VM", vms[0]["name"], key, states)


def targets_of(model: LiveModel, keys: list[str]) -> tuple[Target, ...]:
    """Those of several lines; what belongs to another one of them is left out."""
    chosen = set(keys)
    found: dict[str, Target] = {}
    for key in keys:
        ws = model.workspace_of(key)
        above = {f"workspaces/{ws['id']}"} if ws else set()
        if key.startswith("vms/") and ws:
            above.add(f"groups/{ws['id']}/{(model.doc(key) or {}).get('group', '')}")
        target = target_of(model, key)
        if target is not None and not (above - {key}) & chosen:
            found[target.id] = target
    return tuple(found.values())


def fitting(verb: Verb, targets: tuple[Target, ...]) -> str:
    """Why a verb cannot be meant for these; empty when it can."""
    if verb.of == "VM" and (len(targets) != 1 or targets[0].kind != "VM"):
        return "for one VM"
    if verb.of == "workspace" and any(one.kind != "workspace" for one in targets):
        return "for workspaces"
    if verb.fits and not any(one.states & verb.fits for one in targets):
        return "none is " + " or ".join(sorted(verb.fits))
    return ""


async def carry_out(source: Source, order: Order, model: LiveModel, tell: Tell) -> None:
    """Ask, wait until it is done, and say how it went."""
    one = order.targets[0].title if len(order.targets) == 1 else ""
    what = f"{order.verb}: {one or f'{len(order.targets)} marked'}"
    limit = asyncio.Semaphore(AT_ONCE)
    tell(f"{what}: asked for", "info")
    results = await asyncio.gather(
        *(_one(source, order, target, model, limit) for target in order.targets)
    )
    bad = [f"{target.name}: {said}" for target, said in zip(order.targets, results) if said]
    if one:
        tell(f"{what}: {results[0] or 'done'}", "error" if bad else "info")
    elif bad:
        good = len(results) - len(bad)
        tell(f"{what}: {good} ok, {len(bad)} failed: {'; '.join(bad[:4])}", "error")
    else:
        tell(f"{what}: all {len(results)} done", "info")


async def _one(
    source: Source, order: Order, target: Target, model: LiveModel, limit: asyncio.Semaphore
) -> str:
    """What went wrong with one target, whatever it was; empty when it is done."""
    async with limit:
        model.pending[target.key] = order.verb
        model.failed.pop(target.key, None)
        try:
            said = await _ask(source, order, target) or await _await(source, order, target, model)
        except Exception as error:  # a fault of ours: no act may end without a word
            said = clean(f"{type(error).__name__}: {error}", 400)
        finally:
            model.pending.pop(target.key, None)
    if said:
        model.failed[target.key] = f"{order.verb}: {said}"
    return said


async def _ask(source: Source, order: Order, target: Target) -> str:
    try:
        await source.call(order.verb, **order.params(target))
    except (NoDaemon, TimedOut) as error:
        # Asked for again it would be one extension more: every order has a token of its own.
        again = "what is left of its lease" if order.verb == "extend" else "its state, or ask again"
        return f"{_words(error)}. Whether it was taken is not known: see {again}"
    except WspilotError as error:
        return _words(error)
    return ""


async def _await(source: Source, order: Order, target: Target, model: LiveModel) -> str:
    goal = VERBS[order.verb].goal
    if not goal:
        return ""
    model.pending.pop(target.key, None)  # from here on its own state says more
    try:
        await source.call("wait", id=target.id, timeout_s=DONE_S, **{"for": goal})
    except TimedOut:
        return f"not done after {DONE_S:.0f} s; it goes on"
    except NoDaemon as error:
        return f"taken, but its end was not seen: {_words(error)}"
    except WspilotError as error:
        return _words(error)
    return ""


def _words(error: WspilotError) -> str:
    return clean(f"{error.message}. {error.hint}" if error.hint else error.message, 400)
