"""Adapter `balloon`: the slot's memory comes out of domain 0, by the root helper, and goes back.

All bookkeeping is root's (`root_balloon.py`): here is only how it is asked. What was taken is
known by the path of this pilot's journal, so that anybody who has the journal's entry gives it
back, and so does whoever calls the helper next when the journal is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wspilot.node import root
from wspilot.text import clean

POLICIES = ("exact", "node")


class Balloon:
    """Implements `HostAdapter`. Options: `policy` (`exact` or `node`), and the pilot's `journal`
    and `slot`."""

    name = "balloon"
    suspendable = False

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options

    def intent(self, mib: int) -> Mapping[str, Any]:
        """See `HostAdapter`."""
        return {
            "adapter": self.name,
            "mib": mib,
            "policy": str(self._options.get("policy", "exact")),
            "journal": str(self._options.get("journal", "")),
            "slot": str(self._options.get("slot", "")),
        }

    async def reserve(self, entry: Mapping[str, Any]) -> int:
        """See `HostAdapter`. Domain 0 has shrunk, seen in /sys, when this returns."""
        words = {key: entry[key] for key in ("journal", "slot", "mib", "policy")}
        found = await root.asked("balloon-take", words, root.XEN_S)
        return int(found["mib"])

    def release(self, entry: Mapping[str, Any]) -> str:
        """See `HostAdapter`. Guests of this pilot that were still in the way are named."""
        found = root.ask("balloon-give", {"journal": entry["journal"]}, root.XEN_S)
        if not found.get("mib"):
            return ""
        text = f"{found['mib']} MiB given back to domain 0, which has {found['dom0_mib']} MiB"
        ended = ", ".join(clean(str(name), 60) for name in found.get("ended", ()))
        return f"{text}; guests in the way were ended: {ended}" if ended else text

    def taken(self, entry: Mapping[str, Any]) -> int:
        """See `HostAdapter`."""
        found = root.ask("xen-list", {}, root.XEN_S)
        mine = [one for one in found["takes"] if one["slot"] == entry["slot"]]
        return sum(int(one["mib"]) for one in mine)
