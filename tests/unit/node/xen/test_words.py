"""What a pilot says of a VM to the helper; hvc0; and kill-all's look at Xen."""

from __future__ import annotations

import asyncio
import os
import pty
import tty
from pathlib import Path
from typing import Any

import pytest

from wspilot.errors import UsageError
from wspilot.node import root, xennode
from wspilot.node.vmm import end_all, xenstale, xenwords
from wspilot.node.vmm.base import EventKind, VmEvent, VmSpec
from wspilot.node.vmm.xen import Xen
from wspilot.node.vmm.xenguest import Guest

IMAGE = {"kernel": "/i/vmlinux", "initrd": "/i/initrd", "append": "quiet"}


def spec(**change: Any) -> VmSpec:
    given: dict[str, Any] = {
        "id": "vm1", "name": "w/vm/1", "uuid": "1" * 8, "cpus": 1, "memory_mib": 256,
        "image": IMAGE, **change,
    }  # fmt: skip
    return VmSpec(**given)


def said(one: VmSpec, kind: str = "pv") -> Any:
    return xenwords.words(one, xenwords.raw_disks(one, Path("/run/p")), "/j", "slot", kind)


def test_disks_are_raw_files_of_the_vms_own_and_the_seed_is_the_last() -> None:
    image = {**IMAGE, "disk": "/i/root.qcow2", "format": "qcow2", "blank": [{"size_mib": 8}]}
    found = said(spec(image=image, seed="/run/p/vm1.seed"))
    assert found["disks"] == [
        {"path": "/run/p/vm1.raw", "vdev": "xvda", "access": "w"},
        {"path": "/run/p/vm1.blank0.raw", "vdev": "xvdb", "access": "w"},
        {"path": "/run/p/vm1.seed", "vdev": "xvdz", "access": "r"},
    ]
    assert found["append"] == "quiet console=hvc0"
    root = xenwords.raw_disks(spec(image=image), Path("/run/p"))[0]
    assert xenwords.copy_argv("qemu-img", root)[1:3] == ["convert", "-q"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"image": {"disk": "/i/root.raw", "format": "raw"}}, "names no kernel"),
        ({"image": {**IMAGE, "append": 'x" y'}}, "append"),
        ({"image": {**IMAGE, "append": 5}}, "append"),
        ({"image": {**IMAGE, "xen": "hvm"}}, "pv or pvh"),
        ({"nics": ({"mac": "02:57:0a:09:00:02", "network": "lan", "way": "user"},)}, "QEMU"),
    ],
)
def test_what_xen_cannot_do_is_said_by_vm(change: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        said(spec(**change))


def test_pvh_is_the_images_word_or_the_sites() -> None:
    assert said(spec(), "pvh")["kind"] == "pvh"
    assert said(spec(image={**IMAGE, "xen": "pv"}), "pvh")["kind"] == "pv"


def test_the_overhead_is_what_the_helper_counts_and_the_daemon_asks_for() -> None:
    from wspilot.daemon.policy import overhead_mib
    from wspilot.node.root_guest import overhead_mib as counted

    for mib in (64, 256, 4096, 65536):
        assert Xen({}).overhead_mib(spec(memory_mib=mib)) == counted(mib)
        assert counted(mib) <= overhead_mib("xen", mib)


def test_a_guest_speaks_on_its_console_and_its_end_is_noticed(tmp_path: Path) -> None:
    async def work() -> tuple[list[VmEvent], bytes]:
        ours, theirs = pty.openpty()
        tty.setraw(theirs)
        events: list[VmEvent] = []
        over = asyncio.Event()
        guest = Guest(spec(), {"files": []}, {}, events.append, tmp_path / "log")
        guest.on_end = over.set
        guest.begin(3, os.ttyname(theirs), False)
        os.close(theirs)
        os.write(ours, b"[ 0.1] kernel\r\nWSPILOT ready after 3 s\r\nWSPILOT ok done\x1b[1m\r\n")
        for _ in range(500):
            await asyncio.sleep(0.01)
            if len(events) == 4:
                break
        assert guest.console.listen(lambda _: None)[0].startswith(b"[ 0.1] kernel")
        assert await guest.console.type(b"ls\r")
        typed = os.read(ours, 100)
        os.close(ours)  # xenconsoled does so when the domain is gone
        await asyncio.wait_for(over.wait(), 5)
        guest.close()
        return events, typed

    events, typed = asyncio.run(work())
    assert [(one.kind, one.text) for one in events] == [
        (EventKind.STARTED, "domain 3"), (EventKind.BOOTING, "running"),
        (EventKind.READY, "after 3 s"), (EventKind.SAID, "done[1m"),
    ]  # fmt: skip
    assert typed == b"ls\r" and b"kernel" in (tmp_path / "log").read_bytes()


def test_journals_of_both_vmms_are_undone_each_by_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(xenstale.root, "ask", lambda *words: asked.append(words))
    disk = tmp_path / "vm1.raw"
    disk.touch()
    xen = {"vmm": "xen", "identity": {"uuid": "u-1", "files": [str(disk)], "qmp": None}}
    qemu = {"vmm": "qemu", "identity": {"uuid": "u-2", "files": [], "qmp": None, "pid": None}}
    assert end_all([xen, qemu, {}, xen]) == [True, True, False, True]
    assert asked[0][:2] == ("xen-end", {"uuids": ["u-1", "u-1"]}) and not disk.exists()


def test_kill_all_says_what_the_hypervisor_still_has_of_this_user() -> None:
    found = {
        "strays": ["64 MiB given back"], "dom0_mib": 700, "full_mib": 1024, "taken_mib": 324,
        "domains": [
            {"name": "ws-7-a", "mib": 96, "uid": 7, "slot": "s1"},
            {"name": "ws-7-b", "mib": 96, "uid": 7, "slot": "s2"},
            {"name": "other", "mib": 96, "uid": None, "slot": None},
        ],
        "takes": [{"slot": "s1", "uid": 7, "mib": 324}, {"slot": "s1", "uid": 8, "mib": 1}],
    }  # fmt: skip
    found["missing_mib"] = 0
    look = xennode.judge(found, lambda uid: uid == 7, lambda slot: slot == "s1")
    assert look.left == ("guest ws-7-a (96 MiB)", "324 MiB of domain 0 for slot s1")
    assert look.undone == ("64 MiB given back",)
    assert look.note == "domain 0 has 700 of 1024 MiB, 324 are taken"
    everyone = xennode.judge(found, lambda uid: True, lambda slot: True)
    assert len(everyone.left) == 4 and not any("other" in text for text in everyone.left)


def test_a_guest_that_only_its_name_still_knows_is_ended_where_no_slot_is_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    domains = [{"name": "ws-7-a", "uuid": "u1", "mib": 96, "uid": 7, "slot": None},
               {"name": "ws-8-a", "uuid": "u2", "mib": 96, "uid": 8, "slot": None},
               {"name": "other", "uuid": "u3", "mib": 96, "uid": None, "slot": None}]  # fmt: skip
    empty = {"strays": [], "dom0_mib": 1, "full_mib": 1, "taken_mib": 0, "takes": [],
             "missing_mib": 0}  # fmt: skip
    asked: list[Any] = []

    def ask(verb: str, words: dict[str, Any], limit_s: float) -> dict[str, Any]:
        asked.append((verb, words))
        ended = ("xen-end", {"uuids": ["u1"]}) in asked
        return {**empty, "domains": domains[1:] if ended else domains}

    monkeypatch.setattr(root, "ask", ask)
    monkeypatch.setattr(xennode, "_has_xen", lambda: True)
    look = xennode.look(lambda uid: uid == 7, lambda slot: slot == "s1", None)
    assert look.left == () and asked == [("xen-list", {})], "a slot's kill-all ends its own alone"
    look = xennode.look(lambda uid: uid == 7, lambda slot: True, None)
    assert look.left == () and ("xen-end", {"uuids": ["u1"]}) in asked


def test_memory_that_domain_0_lacks_is_left_over_whoever_asks() -> None:
    found = {"strays": [], "dom0_mib": 824, "full_mib": 1024, "taken_mib": 0, "missing_mib": 200,
             "domains": [], "takes": []}  # fmt: skip
    look = xennode.judge(found, lambda uid: False, lambda slot: False)
    assert look.left == ("200 MiB of domain 0, which nobody took and it has not",)


def test_a_helper_of_another_release_is_left_over_not_the_end_of_kill_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    helper = tmp_path / "helper"
    helper.write_text('#!/bin/sh\necho \'{"dom0_kb": 1, "takes": [], "domains": []}\'\n')
    helper.chmod(0o755)
    monkeypatch.setattr(xennode, "is_domain_0", lambda: True)
    monkeypatch.setattr(root, "HELPER", str(helper))
    monkeypatch.setattr(os, "geteuid", lambda: 0)  # no sudo
    found = xennode.look(lambda _: True, lambda _: True, None)
    assert "another release" in found.left[0]
