"""The root helper against a real Xen, without a pilot: what it refuses, whom, and no drift."""

from __future__ import annotations

import json
import shlex
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.real.xen.conftest import SETTLE_S
from tests.real.xen.machine import DOM0_MIB, XenHost
from tests.real.xen.xenslot import HELPER, IMAGE, KEEP, UID, ZIPAPP, report

pytestmark = pytest.mark.real
JOURNAL = f"{KEEP}/n/slot_pilot.journal"
TAKE = {"journal": JOURNAL, "slot": "slot", "mib": 64, "policy": "exact"}
GUEST = {"journal": JOURNAL, "slot": "slot", "vm": "vm1", "kind": "pv", "cpus": 1, "mib": 96,
         "kernel": IMAGE["kernel"], "initrd": IMAGE["initrd"], "append": IMAGE["append"],
         "nics": [], "disks": []}  # fmt: skip
ROUNDS = 20


@pytest.fixture
def journal(host: XenHost) -> Iterator[None]:
    """A pilot's journal, as far as the helper looks at it."""
    host.run(f"mkdir -p {KEEP}/n; touch {JOURNAL}; chown -R {UID} {KEEP}").ok()
    yield
    host.run(f"rm -rf {KEEP}").ok()


def asked(host: XenHost, verb: str, words: dict[str, Any], user: str = "alice") -> dict[str, Any]:
    """One call; the answer, or the refusal as {error}."""
    text = shlex.quote(json.dumps(words))
    done = host.run(f"printf %s {text} | sudo -n {HELPER} {verb}", user)
    found: dict[str, Any] = json.loads(done.out or json.dumps({"error": done.err}))
    assert ("error" in found) == (done.code != 0)
    return found


def memory(host: XenHost) -> int:
    return int(host.run("cat /sys/devices/system/xen_memory/xen_memory0/info/current_kb").ok())


def test_twenty_rounds_leave_no_kib_behind(host: XenHost, journal: None) -> None:
    take, give = (shlex.quote(json.dumps(one)) for one in (TAKE, {"journal": JOURNAL}))
    script = f"""
    kb() {{ cat /sys/devices/system/xen_memory/xen_memory0/info/current_kb; }}
    for n in $(seq {ROUNDS}); do
      printf %s {take} | sudo -n {HELPER} balloon-take >/dev/null || exit 1; low=$(kb)
      printf %s {give} | sudo -n {HELPER} balloon-give >/dev/null || exit 1; echo $low $(kb)
    done"""
    out = host.run(script, "alice", 900).ok().splitlines()
    assert out == [f"{(DOM0_MIB - 64) * 1024} {DOM0_MIB * 1024}"] * ROUNDS


def test_what_is_refused_leaves_the_node_as_it_was(host: XenHost, journal: None) -> None:
    for words, why in (
        ({**TAKE, "mib": 900}, "minimum"),
        ({**TAKE, "mib": 10**9}, "`mib`"),
        ({**TAKE, "policy": "all; reboot"}, "`policy`"),
        ({**TAKE, "journal": "/etc/../var/tmp/wspilot-0/x"}, "`journal`"),
        ({**TAKE, "slot": "$(reboot)"}, "`slot`"),
    ):
        assert why in asked(host, "balloon-take", words)["error"]
    assert "usage" in asked(host, "'balloon-take; id'", {})["error"]
    assert "sudo" in asked(host, "balloon-take", TAKE, "games")["error"]  # no rule, no right
    text = shlex.quote(json.dumps(TAKE))  # nobody waits for the answer: nobody would give it back
    host.run(f"printf %s {text} | sudo -n {HELPER} balloon-take | true", "alice").ok()
    assert ".take" not in host.run("ls /var/lib/wspilot").ok()
    assert memory(host) == DOM0_MIB * 1024


def test_a_xenstored_that_hangs_costs_time_and_no_memory(host: XenHost, journal: None) -> None:
    stopped = host.run("pid=$(pgrep -f '[x]enstored' | head -1); kill -STOP $pid && echo $pid").ok()
    try:
        assert "xl mem-set took longer than" in asked(host, "balloon-take", TAKE)["error"]
    finally:
        host.run(f"kill -CONT {stopped}").ok()
    assert memory(host) in ((DOM0_MIB - 64) * 1024, DOM0_MIB * 1024)
    assert "error" not in asked(host, "balloon-give", {"journal": JOURNAL})
    assert memory(host) == DOM0_MIB * 1024


def test_another_users_memory_and_guests_cannot_be_touched(host: XenHost, journal: None) -> None:
    one = str(uuid.uuid4())
    assert asked(host, "balloon-take", {**TAKE, "mib": 128})["mib"] == 128
    try:
        assert "no memory" in asked(host, "xen-create", {**GUEST, "uuid": one, "journal":
            f"{KEEP}/n/other_pilot.journal"})["error"]  # fmt: skip
        assert (
            "more than the 128 MiB"
            in asked(host, "xen-create", {**GUEST, "uuid": one, "mib": 200})["error"]
        )
        secret = {"path": "/etc/shadow", "vdev": "xvda", "access": "r"}
        assert (
            "cannot be opened by alice"
            in asked(host, "xen-create", {**GUEST, "uuid": one, "disks": [secret]})["error"]
        )
        assert (
            "quotes"
            in asked(
                host, "xen-create", {**GUEST, "uuid": one, "append": 'x"\ndisk = ["phy:/dev/vda"]'}
            )["error"]
        )
        assert (
            "was not attached"
            in asked(host, "xen-create", {**GUEST, "uuid": one, "nics": ["wsvm1.0"]})["error"]
        )
        asked(host, "xen-create", {**GUEST, "uuid": one})
        assert "another user's" in asked(host, "xen-end", {"uuids": [one]}, "bob")["error"]
        assert (
            "none of yours" in asked(host, "xen-do", {"uuid": one, "do": "pause"}, "bob")["error"]
        )
        assert "only root" in asked(host, "xen-end-strangers", {"uuids": [one]}, "bob")["error"]
        assert "`journal`" in asked(host, "balloon-give", {"journal": JOURNAL}, "bob")["error"]
        assert "ws-1500-vm1" in host.run("xl list").ok()
    finally:
        found = asked(host, "balloon-give", {"journal": JOURNAL})
    assert found["ended"] == ["ws-1500-vm1"]


def test_a_strangers_guest_is_never_killed_and_is_named(host: XenHost, journal: None) -> None:
    asked(host, "balloon-take", {**TAKE, "mib": 300})
    config = (f'name = "strange"\nkernel = "{IMAGE["kernel"]}"\nramdisk = "{IMAGE["initrd"]}"\n'
              "memory = 1200\n")  # fmt: skip
    (host.share / "strange.cfg").write_text(config)
    host.run("xl create -q /share/strange.cfg").ok()
    try:
        refused = asked(host, "balloon-give", {"journal": JOURNAL})["error"]
        assert "strange" in refused and f"{SETTLE_S} s" in refused
        # kill-all neither, without a yes; and then its memory goes where it belongs
        refused = host.run(f"python3 {ZIPAPP} kill-all --everyone --all")
        assert refused.code == 5 and "domain strange, 1200 MiB" in refused.err
        assert "strange" in host.run("xl list").ok()
        found = report(host, "--everyone --all --yes", "root")
        assert found["clean"] and "strange" in str(found["guests"])
        assert "300 MiB given back" in str(found["notes"])
    finally:
        host.run("xl destroy strange")


def test_memory_of_a_user_who_has_no_directory_any_more_comes_back(host: XenHost) -> None:
    """As after a lost /var/tmp: nothing but root's own record knows of it."""
    host.run(f"mkdir -p {KEEP}/n; touch {JOURNAL}; chown -R {UID} {KEEP}").ok()
    assert asked(host, "balloon-take", TAKE)["mib"] == 64
    host.run(f"rm -rf {KEEP}").ok()
    found = report(host, "--everyone", "root")
    assert found["clean"] and "64 MiB given back" in str(found["notes"])


def test_a_guest_that_no_journal_and_no_record_knows_is_ended_by_its_name(
    host: XenHost, journal: None
) -> None:
    asked(host, "balloon-take", {**TAKE, "mib": 128})
    asked(host, "xen-create", {**GUEST, "uuid": str(uuid.uuid4())})
    host.run(f"rm -rf {KEEP} /var/lib/wspilot/*.guest").ok()
    assert report(host, "--slot another", "root")["clean"] and "ws-1500" in host.run("xl list").out
    assert report(host, "--everyone", "root")["clean"]
    assert "ws-1500" not in host.run("xl list").ok() and memory(host) == DOM0_MIB * 1024


def test_a_create_that_was_killed_half_way_is_found_by_its_uuid(
    host: XenHost, journal: None
) -> None:
    one = str(uuid.uuid4())
    asked(host, "balloon-take", {**TAKE, "mib": 128})
    words = shlex.quote(json.dumps({**GUEST, "uuid": one}))
    killed = host.run(
        f"""printf %s {words} | SUDO_UID={UID} SUDO_GID={UID} {HELPER} xen-create & helper=$!
        for n in $(seq 600); do [ $(xl list | wc -l) -gt 2 ] && break; done
        kill -9 $(pgrep -P $helper) $helper || exit 1; sleep 1; xl list -v; ls /var/lib/wspilot"""
    ).ok()  # fmt: skip
    assert one in killed.split("Security Label")[1]
    found = asked(host, "balloon-give", {"journal": JOURNAL})
    assert len(found["ended"]) == 1
