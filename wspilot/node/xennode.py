"""Xen's part of kill-all: what no journal names, and whether domain 0 has its memory again.

Journals name guests and memory as on every node, and undo them; this looks at what the hypervisor
itself says afterwards. The root helper undoes strays (of pilots whose journal is gone) as it is
asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from wspilot.errors import TimedOut, WspilotError
from wspilot.node import root
from wspilot.node.values import dataclass
from wspilot.text import clean

CAPABILITIES = Path("/proc/xen/capabilities")


@dataclass(frozen=True)
class Look:
    """What Xen says: `undone` and `left` in words; `note` on the memory, "" where there is none."""

    undone: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    note: str = ""


def is_domain_0() -> bool:
    """Does this process run in domain 0 of a Xen node?"""
    try:
        return "control_d" in CAPABILITIES.read_text()
    except OSError:
        return False


def call() -> Optional[root.Call]:
    """The helper that `look` will need, started while there is other work; None: it needs none, or
    there will be no answer."""
    try:
        return root.Call("xen-list") if _has_xen() else None
    except WspilotError:
        return None


def _has_xen() -> bool:
    return is_domain_0() and Path(root.HELPER).is_file()


def look(
    whose: Callable[[int], bool], covers: Callable[[str], bool], called: Optional[root.Call]
) -> Look:
    """Undo strays, then see what is left. `whose`: which users are meant; `covers`: which slots.

    Blocks: Xen's own time for what is left to destroy, and for memory to settle.
    """
    if called is None and not _has_xen():
        return Look()
    try:
        found = _listed(called)
        if lost := _lost(found, whose, covers):
            root.ask("xen-end", {"uuids": lost}, root.XEN_S)
            found = root.ask("xen-list", {}, root.XEN_S)
        return judge(found, whose, covers)
    except WspilotError as error:
        return Look(left=(f"Xen: {error}",))
    except (KeyError, TypeError):
        return Look(left=(f"Xen: {root.HELPER} is of another release: make install-node",))


def _lost(
    found: Mapping[str, Any], whose: Callable[[int], bool], covers: Callable[[str], bool]
) -> list[str]:
    """Guests of ours that neither a journal nor a record of root's knows any more: their uuids."""
    return [
        str(one["uuid"])
        for one in found["domains"]
        if one["uid"] is not None and one["slot"] is None and whose(one["uid"]) and covers("")
    ]


def _listed(called: Optional[root.Call]) -> Mapping[str, Any]:
    """From the helper that waits; from a new one where that has died of waiting. Raises
    WspilotError."""
    if called is not None:
        try:
            return called.answer({}, root.XEN_S)
        except (root.Declined, TimedOut):
            raise
        except WspilotError:
            pass
    return root.ask("xen-list", {}, root.XEN_S)


def judge(
    found: Mapping[str, Any], whose: Callable[[int], bool], covers: Callable[[str], bool]
) -> Look:
    """The helper's `xen-list`, in words. Pure."""
    left = [
        f"guest {_word(one['name'])} ({one['mib']} MiB)"
        for one in found["domains"]
        if one["uid"] is not None and whose(one["uid"]) and covers(str(one.get("slot")))
    ]
    left += [
        f"{one['mib']} MiB of domain 0 for slot {_word(one['slot'])}"
        for one in found["takes"]
        if whose(one["uid"]) and covers(str(one["slot"]))
    ]
    if found["missing_mib"]:
        left.append(f"{found['missing_mib']} MiB of domain 0, which nobody took and it has not")
    note = f"domain 0 has {found['dom0_mib']} of {found['full_mib']} MiB"
    if found["taken_mib"]:
        note += f", {found['taken_mib']} are taken"
    return Look(tuple(_word(text) for text in found["strays"]), tuple(left), note)


def strangers() -> Sequence[Mapping[str, Any]]:
    """Guests that are not wspilot's: {name, uuid, mib}. Raises WspilotError."""
    if not _has_xen():
        return ()
    found = root.ask("xen-list", {}, root.XEN_S)
    return [one for one in found["domains"] if one["uid"] is None]


def end_strangers(uuids: Sequence[str]) -> str:
    """Destroy them (root alone may); what went wrong, or nothing."""
    try:
        if uuids:
            root.ask("xen-end-strangers", {"uuids": list(uuids)}, root.XEN_S)
    except WspilotError as error:
        return str(error)
    return ""


def _word(text: object) -> str:
    return clean(str(text), 120)
