"""Leases whose pilots have no live channel, by the site's word or for want of a port: all goes on
but console and ssh. And one that has, with simulated VMs."""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import ExitStack

import pytest

from tests.real.builtin import Builtin, builtin
from tests.real.window import Window
from wspilot.errors import Refused

pytestmark = pytest.mark.real


def lease(one: Builtin) -> str:
    id = str(one.deploy(type="small", duration="10m", name="w")["id"])
    one.wait(id)
    return id


def nothing_new(one: Builtin, before: dict[str, list[str]]) -> None:
    end = time.monotonic() + 10  # a guardian's farewell, a last unlink
    while (after := one.left()) != before and time.monotonic() < end:
        time.sleep(0.2)
    assert after == before


def reached(one: Builtin, id: str) -> str:
    """The refusal's words."""
    with pytest.raises(Refused) as told:
        one.call("reach", id=id)
    return f"{told.value.message} {told.value.hint}"


def test_without_a_live_channel_all_but_console_and_ssh_works() -> None:
    with builtin("sim", 1, site="live = false") as one:
        before = one.left()
        id = lease(one)
        assert "has no live channel" in reached(one, id)
        assert one.end(id)["outcome"] == "destroyed"
        nothing_new(one, before)


def test_a_node_that_has_no_port_to_give_says_so_in_its_log() -> None:
    with ExitStack() as stack:
        for taken in range(31000, 32000):
            try:
                held = [stack.enter_context(socket.create_server(("", taken + n))) for n in (0, 1)]
                break
            except OSError:
                continue
        low = held[0].getsockname()[1]
        one = stack.enter_context(
            builtin("sim", 1, site=f'live_ports = "{low}-{low + 1}"\nlive_network = "127.0.0.0/8"')
        )
        id = lease(one)
        assert "has no live channel" in reached(one, id)
        one.end(id)
        logs = "".join(log["text"] for log in one.call("logs", id=id)["logs"])
        assert f"no live channel: no port of {low} to {low + 1} is free on 127.0.0.1" in logs


def test_a_console_of_a_simulated_vm_says_what_it_is_told() -> None:
    with builtin("sim", 1, site='live_network = "127.0.0.0/8"') as one:
        before = one.left()
        id = lease(one)
        argv = [sys.executable, "-m", "wspilot", "--home", str(one.home), "console", "w/vm/1"]
        window = Window(argv, os.environ)
        try:
            window.until(b"Ctrl-] leaves it")
            window.until(b"simulated console")
            window.type(b"is anybody there?")
            window.until(b"is anybody there?")
            one.destroy(id)
            assert window.ends() == 0 and b"the VM has ended" in window.shown
            assert window.modes() == window.before
        finally:
            window.close()
        one.wait(id, "ended")
        nothing_new(one, before)
