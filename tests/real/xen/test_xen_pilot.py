"""Pilots in domain 0 of a real Xen: leases, and every way in which they end too early.

After each test domain 0 has its memory to the KiB (`conftest.whole`).
"""

from __future__ import annotations

import signal
import time

import pytest

from tests.real.xen.machine import DOM0_MIB, XenHost
from tests.real.xen.xenslot import IMAGE, XenSlot, report
from wspilot.messages import Kind, Verb

pytestmark = pytest.mark.real
Slots = list[XenSlot]
TYPED = (
    "ping -c1 -W5 10.9.0.3; a=$?; ip addr add 10.9.0.77/24 dev eth0; "
    "ping -I 10.9.0.77 -c1 -W3 10.9.0.1; echo met=$a false=$?"
)


def begin(host: XenHost, slots: Slots, **settings: object) -> XenSlot:
    """A slot whose pilot has domain 0's memory."""
    slot = XenSlot(host, **settings)
    slots.append(slot)
    slot.start()
    taken = slot.wait(Kind.RESERVED).data["taken_mib"]
    assert taken == slot.settings["take_mib"]
    assert host.run("xl list 0 | tail -1").ok().split()[2] == str(DOM0_MIB - taken)
    return slot


def guest(slot: XenSlot) -> None:
    """One guest, without a network."""
    slot.create(memory_mib=96, image=IMAGE, boot_s=240)
    slot.vm("vm000001", "running")


def ended(slot: XenSlot) -> int:
    """The job's exit code, once it has ended."""
    return slot.host.result(slot.ticket, 200).code


def test_two_guests_answer_each_other_and_a_sigterm_gives_all_back(
    host: XenHost, slots: Slots
) -> None:
    slot = begin(host, slots)
    slot.pair()
    for vm in ("vm000001", "vm000002"):
        slot.vm(vm, "running")  # the guest has said so itself, on hvc0
    out = host.run("for n in 2 3; do ping -c2 -W3 10.9.0.$n; done; nft list table bridge wspilot")
    assert "wsvm000001.0" in out.ok() and "02:57:0a:09:00:03" in out.out
    # typed at a guest's console, as people do: its sister answers, and a foreign address is
    # dropped by the filter
    host.run("t=$(xenstore-read /local/domain/$(xl domid ws-1500-vm000001)/console/tty); "
             f"printf '%s\\n' '{TYPED}' >$t").ok()  # fmt: skip
    log = "/tmp/wspilot-*/*/*/console-vm000001.log"
    host.until(f"grep -e '^met=0' {log}", 60)
    assert "met=0 false=1" in host.run(f"cat {log}").ok()
    slot.signal(signal.SIGTERM, "pilot")
    slot.wait(Kind.PREEMPTED)
    assert "given back" in str(slot.wait(Kind.RELEASED).data["undone"])
    kinds = slot.kinds()
    assert kinds.index("preempted") < kinds.index("released")
    assert ended(slot) == 0


def test_a_guest_is_paused_suspended_and_resumed(host: XenHost, slots: Slots) -> None:
    slot = begin(host, slots)
    guest(slot)
    for verb, state in ((Verb.PAUSE, "paused"), (Verb.RESUME, "running"),
                        (Verb.SUSPEND, "suspended"), (Verb.RESUME, "running")):  # fmt: skip
        seq = max(note.seq for note in slot.heard)
        slot.send(verb, id="vm000001")
        slot.wait(Kind.VM, lambda note: note.seq > seq and note.data["state"] == state)  # noqa: B023
    listed = host.run("xl list | grep ws-1500-vm000001; uptime").ok()
    assert "ws-1500-vm000001" in listed
    slot.send(Verb.RELEASE, cause="enough")
    slot.wait(Kind.RELEASED)
    assert ended(slot) == 0


def test_a_killed_pilot_is_undone_by_its_guardian(host: XenHost, slots: Slots) -> None:
    slot = begin(host, slots)
    guest(slot)
    slot.signal(signal.SIGKILL, "pilot")
    last = slot.wait(Kind.FAILED).data
    assert last["clean"] and "VM vm000001 ended" in str(last["undone"])
    assert f"given back to domain 0, which has {DOM0_MIB} MiB" in str(last["undone"])
    until_gone(slot)


def test_kill_all_gives_back_what_pilot_and_guardian_left(host: XenHost, slots: Slots) -> None:
    slot = begin(host, slots)
    guest(slot)
    slot.signal(signal.SIGKILL, "guardian")
    slot.signal(signal.SIGKILL, "pilot")
    began = time.monotonic()
    found = report(host)
    assert found["clean"] and f"has {DOM0_MIB} of {DOM0_MIB} MiB" in str(found["notes"])
    print(f"kill-all: {found['seconds']:.1f} s by its own clock, {time.monotonic() - began:.1f} s")
    until_gone(slot)


def test_the_next_pilot_gives_back_what_the_last_one_left_and_a_stopped_one_is_preempted(
    host: XenHost, slots: Slots
) -> None:
    first = begin(host, slots)
    first.signal(signal.SIGKILL, "guardian")
    first.signal(signal.SIGKILL, "pilot")
    second = begin(host, slots, take_mib=128)
    assert "256 MiB given back" in str(second.wait(Kind.RESERVED).data["undone"])
    second.signal(signal.SIGSTOP, "pilot")  # the batch system has suspended the job
    second.wait(Kind.PREEMPTED)
    assert "128 MiB given back" in str(second.wait(Kind.RELEASED).data["undone"])
    until_gone(second)


def test_a_sigterm_while_domain_0_shrinks(host: XenHost, slots: Slots) -> None:
    slot = XenSlot(host, take_mib=512)
    slots.append(slot)
    slot.start()
    slot.wait(Kind.STARTED)
    slot.signal(signal.SIGTERM, "pilot")
    slot.wait(Kind.RELEASED)
    ended(slot)


def test_a_domain_0_that_is_too_full_refuses_and_keeps_its_memory(
    host: XenHost, slots: Slots
) -> None:
    full = "head -c 420M /dev/zero >/dev/shm/full"
    host.run(full).ok()
    try:
        slot = XenSlot(host, take_mib=512)
        slots.append(slot)
        slot.start()
        failed = slot.wait(Kind.FAILED).data
        assert "domain 0 is too full" in failed["cause"]
        assert host.run("xl list 0 | tail -1").ok().split()[2] == str(DOM0_MIB)
    finally:
        host.run("rm /dev/shm/full").ok()
    ended(slot)


def until_gone(slot: XenSlot, limit: float = 120.0) -> None:
    """Until no process names the slot."""
    end = time.monotonic() + limit
    while slot.pids():
        assert time.monotonic() < end, slot.pids()
        time.sleep(0.5)
