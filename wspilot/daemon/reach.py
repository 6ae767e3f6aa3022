"""Where a VM's console and ports are to be found: by its pilot's live channel.

The daemon only tells; whoever asks connects by itself, with the slot's key, which lies where only
its owner can read it (DESIGN.md section 7).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wspilot.daemon import hostkeys
from wspilot.daemon.core import picture
from wspilot.daemon.requests import Handler, Params, Requests, text
from wspilot.daemon.service import Service
from wspilot.errors import Refused, UsageError
from wspilot.model import PilotRecord, Vm, VmState

NO_CONTEXT = "none"  # such a guest was not told its host key


class Reach:
    """The method `reach` of one service."""

    def __init__(self, service: Service, requests: Requests) -> None:
        self._service, self._requests = service, requests

    def handlers(self) -> Mapping[str, Handler]:
        """By method."""
        return {"reach": self._reach}

    async def _reach(self, params: Params, uid: int) -> dict[str, Any]:
        """Of one VM (`id`): its pilot's live channel, the key's file, and its ssh host key."""
        service = self._service
        images = await service.images()
        vm = self._vm(text(params, "id"))
        pilot = self._pilot(vm)
        live = pilot.facts["live"]
        slots = service.spool.root / "slots"
        image = images.get(vm.image)
        told = image is not None and image.context != NO_CONTEXT
        keys = await service.papers.run(hostkeys.public, slots, (vm.slot,)) if told else {}
        return {
            "schema": 1,
            "reach": {
                "name": vm.name,
                "id": vm.id,
                "state": vm.state.value,
                "node": vm.node,
                "slot": vm.slot,
                "pilot": pilot.id,
                "host": str(live["host"]),
                "port": int(live["port"]),
                "key": str(slots / vm.slot / "key"),
                "hostname": picture.host_name(vm),
                "host_key": keys.get(vm.id, ""),
            },
        }

    def _vm(self, id: str) -> Vm:
        """The one VM that is meant. Raises NotFound, UsageError."""
        ws, vms = self._requests.find(id)
        vms = vms or self._service.books.vms_of(ws)
        if len(vms) != 1:
            names = ", ".join(vm.name for vm in vms[:5]) + (", ..." if len(vms) > 5 else "")
            raise UsageError(f"{ws.name} has {len(vms)} VMs: which one?", names)
        return vms[0]

    def _pilot(self, vm: Vm) -> PilotRecord:
        """Who runs it, and listens. Raises Refused."""
        if vm.state is VmState.TERMINATED:
            raise Refused(f"{vm.name} has ended", f"its console's log: wspilot logs {vm.name}")
        pilot = self._service.books.pilot(vm.pilot) if vm.pilot else None
        if pilot is None:
            raise Refused(
                f"{vm.name} is {vm.state.value}: it has no node yet",
                f"wspilot wait {vm.name} --for active",
            )
        live = pilot.facts.get("live")
        if not isinstance(live, Mapping) or not live.get("host") or not live.get("port"):
            raise Refused(
                f"the pilot on {vm.node} has no live channel: console and ssh need it",
                "the site sets [site] live = true; the pilot's log says why it could not listen: "
                f"wspilot logs {vm.name}",
            )
        return pilot
