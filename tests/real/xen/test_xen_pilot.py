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
VM = "vm000001"
LOG = f"/tmp/wspilot-*/*/*/console-{VM}.log"
TYPED = (
    "ping -c1 -W10 10.9.0.3; a=$?; ip addr add 10.9.0.77/24 dev eth0; "
    "ping -I 10.9.0.77 -c1 -W5 10.9.0.1; echo met=$a false=$?"
)
CONTROL = "ping -I 10.9.0.77 -c1 -W10 10.9.0.1; echo unfiltered=$?"


def begin(host: XenHost, slots: Slots, user: str = "alice", **settings: object) -> XenSlot:
    """A slot whose pilot has domain 0's memory."""
    before = dom0_mib(host)
    slot = XenSlot(host, user, **settings)
    slots.append(slot)
    slot.start()
    taken = slot.wait(Kind.RESERVED).data["taken_mib"]
    assert taken == slot.settings["take_mib"]
    assert dom0_mib(host) == before - taken
    return slot


def dom0_mib(host: XenHost) -> int:
    return int(host.run("xl list 0 | tail -1").ok().split()[2])


def guest(slot: XenSlot, vm: str = VM, append: str = "") -> None:
    """One guest, without a network."""
    image = {**IMAGE, "append": f"{IMAGE['append']} {append}"}
    slot.create(vm, memory_mib=96, image=image, boot_s=240)
    slot.vm(vm, "running")


def act(slot: XenSlot, verb: Verb, state: str, vm: str = VM, **data: object) -> None:
    """A verb, until the VM is in the state that it leads to."""
    seq = max(note.seq for note in slot.heard)
    order = slot.send(verb, vm=vm, **data)
    answer = slot.wait(Kind.ANSWER, lambda note: note.data["re"] == order).data
    assert answer["ok"], answer
    slot.wait(
        Kind.VM,
        lambda note: note.seq > seq and note.data["id"] == vm and note.data["state"] == state,
    )


def ended(slot: XenSlot) -> int:
    """The job's exit code, once it has ended."""
    return slot.host.result(slot.ticket, 200).code


def type_at(host: XenHost, vm: str, line: str) -> None:
    """At a guest's console, as people do."""
    tty = f"$(xenstore-read /local/domain/$(xl domid ws-1500-{vm})/console/tty)"
    host.run(f"printf '%s\\n' '{line}' >{tty}").ok()


def until_gone(slot: XenSlot, limit: float = 120.0) -> None:
    """Until no process names the slot."""
    end = time.monotonic() + limit
    while slot.pids():
        assert time.monotonic() < end, slot.pids()
        time.sleep(0.5)


def test_two_guests_answer_each_other_and_a_sigterm_gives_all_back(
    host: XenHost, slots: Slots
) -> None:
    slot = begin(host, slots)
    slot.pair()
    for vm in (VM, "vm000002"):
        slot.vm(vm, "running")  # the guest has said so itself, on hvc0
    host.run("for n in 2 3; do ping -c2 -W10 10.9.0.$n || exit 1; done").ok()
    rules = host.run("nft list table bridge wspilot").ok()
    assert "wsvm000001.0" in rules and "02:57:0a:09:00:03" in rules
    # its sister answers, and what comes from a foreign address is dropped: by the filter alone
    type_at(host, VM, TYPED)
    host.until(f"grep ^met= {LOG}", 90)
    assert "met=0 false=1" in host.run(f"grep ^met= {LOG}").ok()
    host.run("nft delete table bridge wspilot").ok()
    type_at(host, VM, CONTROL)
    assert "unfiltered=0" in host.until(f"grep ^unfiltered= {LOG}", 90)
    slot.signal(signal.SIGTERM, "pilot")
    slot.wait(Kind.PREEMPTED)
    assert "given back" in str(slot.wait(Kind.RELEASED).data["undone"])
    kinds = slot.kinds()
    assert kinds.index("preempted") < kinds.index("released")
    assert ended(slot) == 0


def test_a_guest_obeys_every_verb_and_a_sigterm_ends_a_suspended_one(
    host: XenHost, slots: Slots
) -> None:
    slot = begin(host, slots)
    guest(slot)
    act(slot, Verb.PAUSE, "paused")
    act(slot, Verb.RESUME, "running")
    act(slot, Verb.SUSPEND, "suspended")
    assert "ws-1500" not in host.run("xl list").ok()
    act(slot, Verb.RESUME, "running")
    assert f"ws-1500-{VM}" in host.run("xl list").ok()
    act(slot, Verb.REBOOT, "running", grace_s=60)
    act(slot, Verb.STOP, "stopped", grace_s=60)
    assert "going down: poweroff" in host.run(f"cat {LOG}").ok()  # asked, by Xen's power button
    act(slot, Verb.START, "running")
    act(slot, Verb.SUSPEND, "suspended")
    assert ".saved" in host.run("ls /var/lib/wspilot").ok()
    slot.signal(signal.SIGTERM, "pilot")
    slot.wait(Kind.RELEASED)
    assert ended(slot) == 0


def test_a_deaf_guest_is_destroyed_after_its_time_and_a_crash_is_told(
    host: XenHost, slots: Slots
) -> None:
    slot = begin(host, slots)
    guest(slot, append="ws.deaf")
    act(slot, Verb.STOP, "stopped", grace_s=3)
    assert "going down" not in host.run(f"cat {LOG}").ok()
    image = {**IMAGE, "append": f"{IMAGE['append']} ws.crash"}
    slot.create("vm000002", memory_mib=96, image=image, boot_s=240)
    failed = slot.wait(
        Kind.VM, lambda note: note.data["id"] == "vm000002" and note.data["state"] == "failed"
    )
    assert "crashed" in failed.data["cause"]
    slot.send(Verb.RELEASE, cause="enough")
    slot.wait(Kind.RELEASED)
    assert ended(slot) == 0


def test_a_killed_pilot_is_undone_by_its_guardian_and_its_neighbour_goes_on(
    host: XenHost, slots: Slots
) -> None:
    slot, other = begin(host, slots), begin(host, slots, "bob", take_mib=160)
    guest(slot)
    guest(other)
    slot.signal(signal.SIGKILL, "pilot")
    last = slot.wait(Kind.FAILED).data
    assert last["clean"] and f"VM {VM} ended" in str(last["undone"])
    assert f"given back to domain 0, which has {DOM0_MIB - 160} MiB" in str(last["undone"])
    until_gone(slot)
    assert "ws-1501" in host.run("xl list").ok()
    other.send(Verb.RELEASE, cause="enough")
    other.wait(Kind.RELEASED)
    assert ended(other) == 0


def test_kill_all_gives_back_what_pilot_and_guardian_left(host: XenHost, slots: Slots) -> None:
    slot = begin(host, slots)
    guest(slot)
    slot.signal(signal.SIGKILL, "guardian", "pilot")
    until_gone(slot)
    assert report(host, "--slot other000")["clean"]  # of another slot: nothing is touched
    assert report(host, "--everyone --user bob", "root")["clean"]
    assert dom0_mib(host) == DOM0_MIB - 256 and "ws-1500" in host.run("xl list").ok()
    began = time.monotonic()
    found = report(host, f"--slot {slot.id}")
    assert found["clean"] and f"has {DOM0_MIB} of {DOM0_MIB} MiB" in str(found["notes"])
    print(f"kill-all: {found['seconds']:.1f} s by its own clock, {time.monotonic() - began:.1f} s")


def test_the_next_pilot_gives_back_what_the_last_one_left_and_a_stopped_one_is_preempted(
    host: XenHost, slots: Slots
) -> None:
    first = begin(host, slots)
    first.signal(signal.SIGKILL, "guardian", "pilot")
    until_gone(first)
    second = XenSlot(host, take_mib=160)
    slots.append(second)
    second.start()
    assert "256 MiB given back" in str(second.wait(Kind.RESERVED).data["undone"])
    assert dom0_mib(host) == DOM0_MIB - 160
    guest(second)
    second.signal(signal.SIGSTOP, "launch", "pilot", "courier")  # the job has been suspended
    second.wait(Kind.PREEMPTED)
    undone = str(second.wait(Kind.RELEASED).data["undone"])
    assert f"VM {VM} ended" in undone and "160 MiB given back" in undone
    second.signal(signal.SIGKILL, "launch")  # the batch system never resumed it
    until_gone(second)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP])
def test_a_signal_while_domain_0_shrinks(
    host: XenHost, slots: Slots, number: signal.Signals
) -> None:
    slot = XenSlot(host, take_mib=512)
    slots.append(slot)
    slot.start()
    slot.wait(Kind.STARTED)
    pilot = slot.named("pilot")
    hit = f"pid={pilot}; until ls /var/lib/wspilot/*.take; do :; done; kill -{int(number)} $pid"
    if number is signal.SIGSTOP:  # a suspended job's helper is stopped, too, and it has the lock
        hit += " $(pgrep -f '[w]spilot-root balloon-take')"
    host.run(hit).ok()
    last = slot.wait(Kind.FAILED if number is signal.SIGKILL else Kind.RELEASED).data
    assert "512 MiB given back" in str(last["undone"])
    assert "reserved" not in slot.kinds()
    if number is signal.SIGSTOP:
        assert "preempted" in slot.kinds()
    until_gone(slot)


def test_a_sigterm_while_one_guest_boots_and_another_is_created(
    host: XenHost, slots: Slots
) -> None:
    slot = begin(host, slots)
    silent = {**IMAGE, "ready": "console", "pattern": "never said"}
    slot.create(VM, memory_mib=96, image=silent, ready="console", boot_s=240)
    slot.vm(VM, "booting")
    slot.create("vm000002", memory_mib=96, image=IMAGE, boot_s=240)
    pilot = slot.named("pilot")
    host.run(f"pid={pilot}; until [ -e /run/wspilot-xen/*.cfg ]; do :; done; kill $pid").ok()
    assert "given back" in str(slot.wait(Kind.RELEASED).data["undone"])
    assert "vm:running" not in slot.kinds()
    assert ended(slot) == 0


def test_policy_node_takes_all_but_the_minimum_and_a_sigterm_while_it_goes_back(
    host: XenHost, slots: Slots
) -> None:
    slot = XenSlot(host, take_mib=256, vmm_options={"policy": "node"})
    slots.append(slot)
    slot.start()
    taken = slot.wait(Kind.RESERVED).data["taken_mib"]
    assert 256 < taken == DOM0_MIB - dom0_mib(host)
    slot.send(Verb.RELEASE, cause="enough")
    slot.wait(Kind.RELEASING)
    slot.signal(signal.SIGTERM, "pilot")
    assert f"{taken} MiB given back" in str(slot.wait(Kind.RELEASED).data["undone"])
    assert ended(slot) == 0


def test_a_domain_0_that_is_too_full_refuses_and_keeps_its_memory(
    host: XenHost, slots: Slots
) -> None:
    # 450 MiB stay available: less than 512 and the reserve
    host.run(
        "free=$(awk '/^MemAvailable/ {print int($2 / 1024)}' /proc/meminfo); "
        "head -c $((free - 450))M /dev/zero >/dev/shm/full"
    ).ok()
    try:
        slot = XenSlot(host, take_mib=512)
        slots.append(slot)
        slot.start()
        failed = slot.wait(Kind.FAILED).data
        assert "domain 0 is too full" in failed["cause"]
        assert dom0_mib(host) == DOM0_MIB
    finally:
        host.run("rm /dev/shm/full").ok()
    ended(slot)
