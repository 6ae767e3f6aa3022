"""A conversation with the pilot's core in virtual time: `>>` an event, look at what it asks for."""

from __future__ import annotations

from typing import Any, TypeVar

from wspilot.messages import Order, Verb
from wspilot.node.core import Settings, State, step
from wspilot.node.core import events as e

BUDGET = {"launch": 60.0, "propagate": 0.0, "reserve": 5.0, "boot": 120.0, "pad": 0.0, "save": 0.0,
          "stop": 15.0, "restore": 5.0, "slack": 60.0}  # fmt: skip
PILOT = "0" * 8 + "-0000-4000-8000-" + "0" * 12
E = TypeVar("E", bound=e.Effect)


class Talk:
    """One pilot. Effects of the last event are in `effects`, all letters in `letters`."""

    def __init__(self, **settings: Any) -> None:
        values: dict[str, Any] = {
            "slot": "a" * 8, "lease_s": 3600.0, "walltime_s": 7200.0, "budget": BUDGET,
            "allow_root": True, **settings,
        }  # fmt: skip
        self.now = 1000.0
        self.state = State(Settings(**values), began=990.0)
        self.effects: tuple[e.Effect, ...] = ()
        self.letters: list[e.Letter] = []
        self.store = True
        self.orders = 0

    def __rshift__(self, event: e.Event) -> Talk:
        """Say it; what the courier gets is stored at once (unless `store` is off)."""
        self.state, self.effects = step(self.state, event)
        new = [effect for effect in self.effects if isinstance(effect, e.Letter)]
        self.letters += new
        if self.store:
            for letter in new:
                self.state, more = step(self.state, e.Stored(self.now, letter.seq))
                self.effects += more
                self.letters += [effect for effect in more if isinstance(effect, e.Letter)]
        return self

    def later(self, seconds: float) -> Talk:
        """Time passes, with a tick at its end."""
        self.now += seconds
        return self >> e.Tick(self.now)

    def asked(self, kind: type[E]) -> list[E]:
        """The last event's effects of that kind."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def said(self, kind: str) -> list[Any]:
        """The data of everything said of that kind."""
        return [letter.data for letter in self.letters if letter.kind == kind]

    def kinds(self) -> list[str]:
        return [letter.kind for letter in self.letters]

    # -- the usual steps

    def begin(self, **facts: Any) -> Talk:
        return self >> e.Begin(self.now, 5000.0, {"boot_id": "b", "uid": 7, **facts})

    def ready(self, taken: int = 0) -> Talk:
        return self.begin() >> e.Reserved(self.now, taken)

    def order(
        self, verb: Verb, seq: int = 0, re: str = "", ttl_s: float = 600, **data: Any
    ) -> Talk:
        self.orders = seq or self.orders + 1
        order = Order(
            "a" * 8, "n1", PILOT, 1, self.orders, verb, re or f"o{self.orders}", ttl_s, "", 0.0,
            data,
        )  # fmt: skip
        return self >> e.Ordered(self.now, order)

    def create(self, vm: str = "v1", **more: Any) -> Talk:
        uuid = "12345678-1234-4234-8234-123456789012"
        data = {"id": vm, "name": f"ws/vm/{vm}", "uuid": uuid, "cpus": 1, "memory_mib": 64,
                "image": {"name": "small"}, "ready": "agent", "nics": [], "boot_s": 20}  # fmt: skip
        return self.order(Verb.CREATE, **{**data, **more})

    def running(self, *vms: str) -> Talk:
        for vm in vms or ("v1",):
            self.create(vm)
            self >> e.Created(self.now, vm) >> e.VmSaid(self.now, vm, "ready")
        return self

    def vm(self, vm: str = "v1") -> str:
        return self.state.vms[vm].state.value
