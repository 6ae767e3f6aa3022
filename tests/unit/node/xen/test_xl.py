"""What xl prints and is given, against what a real one printed (`recorded.py`)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.node.xen import recorded
from wspilot.node import root_xl
from wspilot.node.root_helper import Refused

GUEST: dict[str, Any] = {
    "name": "ws-1500-vm1", "uuid": "872c2a34-78d9-4280-b41a-2d6870e42565", "kind": "pv",
    "mib": 96, "cpus": 2, "append": "console=hvc0 quiet",
    "nics": [{"vif": "wsvm1.0", "mac": "02:57:0a:09:00:02", "bridge": "xenbr0"}],
    "disks": [{"vdev": "xvda", "access": "w"}, {"vdev": "xvdz", "access": "r"}],
}  # fmt: skip
FILES = {"kernel": "/proc/7/fd/3", "initrd": "/proc/7/fd/4"}


def test_the_list_names_half_made_and_ended_domains_by_their_uuid() -> None:
    dom0, one, half, over = root_xl.parse_list(recorded.LIST)
    assert (dom0.id, dom0.mib) == (0, 600)
    assert (one.name, one.id, one.mib, one.over) == ("ws-1500-g1", 1, 96, False)
    assert (half.name, half.paused) == ("(null)", True)
    assert half.uuid == "11111111-2222-3333-4444-555555555555"
    assert (over.name, over.over) == ("an old guest", True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Name  ID  Memory\nDomain-0 0 600\n",
        recorded.LIST.split("\n")[0] + "\n",
        recorded.LIST + "something else\n",
        recorded.LIST.replace("00000000-0000-0000-0000-000000000000", "-"),
    ],
)
def test_what_another_version_prints_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        root_xl.parse_list(text)


def test_info() -> None:
    found = root_xl.parse_info(recorded.INFO)
    assert found["xen_commandline"].endswith("dom0_mem=1024M,max:1024M")
    assert found["total_memory"] == "2047"


def test_a_guests_end_is_told_by_the_last_word_on_its_own_id() -> None:
    assert root_xl.end_reason(recorded.LOG, 1) == "poweroff"
    assert root_xl.end_reason(recorded.LOG, 3) == "reboot"
    assert root_xl.end_reason(recorded.LOG, 2) == ""


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (recorded.NO_MEMORY, "Xen has not enough free memory for it"),
        (recorded.TOO_SMALL, "its memory is too small for its own kernel"),
        (recorded.NO_KERNEL, "its kernel or ramdisk cannot be opened"),
        (recorded.NO_BRIDGE, "this node has no bridge nobr9"),
        (recorded.NO_SCRIPT, "Xen's script /etc/xen/scripts/vif-nosuch is not there"),
        (recorded.DUPLICATE, "there is a domain g1 already"),
        (recorded.TOO_LOW, "Xen does not let domain 0 go so low"),
        (recorded.TOO_HIGH, "that is above domain 0's maximum (dom0_mem=...,max:)"),
        (recorded.SYNTAX, "xl does not understand its configuration"),
        (recorded.NO_PVH, "this processor has not what a PVH guest needs"),
        (recorded.NO_DOMAIN, "no such domain"),
        ("libxl: error: something\x1b[2J new", "exit 3: libxl: error: something [2J new"),
        ("", "exit 3: no word"),
    ],
)
def test_every_recorded_failure_is_one_clear_sentence(said: str, words: str) -> None:
    assert str(root_xl.explain("create", 3, said)) == f"xl create: {words}"


def test_a_guests_configuration_word_for_word() -> None:
    assert root_xl.config(GUEST, FILES, ["/dev/loop0", "/dev/loop1"], "/v/block") == (
        'name = "ws-1500-vm1"\nuuid = "872c2a34-78d9-4280-b41a-2d6870e42565"\ntype = "pv"\n'
        'kernel = "/proc/7/fd/3"\nmemory = 96\nmaxmem = 96\nvcpus = 2\n'
        'extra = "console=hvc0 quiet"\non_poweroff = "destroy"\non_reboot = "destroy"\n'
        'on_crash = "destroy"\non_watchdog = "destroy"\nramdisk = "/proc/7/fd/4"\n'
        'vif = [ "mac=02:57:0a:09:00:02,bridge=xenbr0,vifname=wsvm1.0" ]\n'
        'disk = [ "format=raw,vdev=xvda,access=w,script=/v/block,target=/dev/loop0", '
        '"format=raw,vdev=xvdz,access=r,script=/v/block,target=/dev/loop1" ]\n'
    )


def test_pvh_without_disks_and_nics() -> None:
    text = root_xl.config({**GUEST, "kind": "pvh", "nics": [], "disks": []}, FILES, [])
    assert 'type = "pvh"' in text and "vif =" not in text and "\ndisk" not in text


@pytest.mark.parametrize("bad", ['a"\ndisk = []', "a'b", "a\\nb", "a\nb", "a\x00", "ä"])
def test_no_text_can_become_a_line_of_its_own(bad: str) -> None:
    with pytest.raises(Refused):
        root_xl.config({**GUEST, "append": bad}, FILES, [])
