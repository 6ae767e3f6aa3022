"""What QEMU is told, word by word; and that no name, path or image can add a word to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from wspilot.errors import UsageError, WspilotError
from wspilot.node.vmm.argv import (
    Wiring,
    check_image,
    overlay_argv,
    qemu_argv,
    socket_path,
)
from wspilot.node.vmm.base import VmSpec, parse_spec
from wspilot.node.vmm.qemu import Qemu

UUID = "8a880fdf-4dc3-4b0c-acad-c2dcc5c78506"
WIRING = Wiring("/usr/bin/qemu-system-x86_64", kvm=False, qmp_fd=7, console_fd=8, agent_fd=9)
GOLDEN = f"""\
/usr/bin/qemu-system-x86_64 -name guest=demo/worker/1 -uuid {UUID}
-nodefaults -no-user-config -display none -machine q35,usb=off,vmport=off
-accel tcg,tb-size=32 -cpu max,la57=off -smp 2 -m 256M -rtc base=utc
-chardev socket,id=qmp,fd=7,server=on,wait=off -mon chardev=qmp,mode=control
-chardev socket,id=console,fd=8 -serial chardev:console
-device virtio-serial-pci,id=ports,max_ports=2
-chardev socket,id=agent,fd=9
-device virtserialport,bus=ports.0,chardev=agent,name=org.wspilot.0
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny
-kernel /i/vmlinuz -initrd /i/initrd -append console=ttyS0
-netdev user,id=net0,restrict=on
-device virtio-net-pci,netdev=net0,mac=52:54:00:00:00:07,romfile="""


def data(**more: Any) -> dict[str, Any]:
    image = {"kernel": "/i/vmlinuz", "initrd": "/i/initrd", "append": "console=ttyS0"}
    nic = {"network": "private", "mac": "52:54:00:00:00:07", "ip": "10.77.0.2"}
    base = {"id": "vm1", "name": "demo/worker/1", "uuid": UUID, "cpus": 2, "memory_mib": 256}
    return {**base, "image": image, "nics": [nic], **more}


def test_every_word() -> None:
    assert qemu_argv(parse_spec(data()), WIRING) == GOLDEN.split()


def test_kvm_and_a_disk_without_a_kernel() -> None:
    spec = parse_spec(data(image={"disk": "/i/base", "format": "raw"}, nics=[]))
    argv = qemu_argv(spec, Wiring("qemu", True, 3, 4, 5, disk="/run/a,b=c.qcow2", sandbox=False))
    assert argv[argv.index("-accel") + 1] == "kvm" and argv[argv.index("-cpu") + 1] == "host"
    node = json.loads(argv[argv.index("-blockdev") + 1])
    assert node["file"]["filename"] == "/run/a,b=c.qcow2" and node["driver"] == "qcow2"
    assert argv[-1] == "virtio-blk-pci,drive=root,serial=root,bootindex=1"
    assert "-kernel" not in argv and "-sandbox" not in argv


def test_nothing_in_a_spec_can_become_an_option() -> None:
    nasty = "x,accel=kvm -drive file=/etc/passwd $(reboot) `id` %s"
    spec = VmSpec("v", nasty, UUID, 1, 64, {"kernel": f"/{nasty}", "append": f"-S {nasty}"}, ())
    argv = qemu_argv(spec, WIRING)
    assert argv[argv.index("-name") + 1] == "guest=" + nasty.replace(",", ",,")
    assert argv[argv.index("-kernel") + 1] == f"/{nasty}"
    assert argv[argv.index("-append") + 1] == f"-S {nasty}"
    assert len(argv) == len(GOLDEN.split()) - 6  # neither initrd nor NIC
    made = overlay_argv("qemu-img", nasty, "raw", Path("/r/-x.qcow2"))
    assert made[-2:] == ["--", "/r/-x.qcow2"] and made[made.index("-b") + 1] == nasty


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id": "../x"}, "id is '../x'"),
        ({"id": "-x"}, "id is '-x'"),
        ({"name": "a,b"}, "name is 'a,b'"),
        ({"name": "a\x1b[2J"}, "name is"),
        ({"uuid": "no"}, "uuid is 'no'"),
        ({"uuid": UUID.upper()}, "plain uuid"),
        ({"cpus": 0}, "cpus is 0, not 1 to 1024"),
        ({"cpus": True}, "cpus is True"),
        ({"memory_mib": 1.5}, "memory_mib is 1.5"),
        ({"memory_mib": -1}, "memory_mib is -1"),
        ({"image": "default"}, "image is 'default', not a table"),
        ({"ready": "soon"}, "ready is 'soon'"),
        ({"nics": {"mac": "x"}}, "nics is not a list"),
        ({"nics": [{"mac": "52:54:00:00:00:07,id=x"}]}, "not six hex pairs"),
        ({"nics": ["52:54:00:00:00:07"]}, "not six hex pairs"),
    ],
)
def test_a_bad_spec_is_refused_by_its_field(change: Mapping[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_spec(data(**change))
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ({}, "neither a kernel nor a disk"),
        ({"disk": "/dev/null"}, "format is None"),
        ({"disk": "/dev/null", "format": "vmdk"}, "format is 'vmdk'"),
        ({"kernel": "vmlinuz"}, "no absolute path"),
        ({"kernel": "/a\0b"}, "no absolute path"),
        ({"kernel": ["/a"]}, "no absolute path"),
        ({"kernel": "/nowhere/vmlinuz"}, "cannot be read on this node: No such file"),
        ({"kernel": "/dev/null", "append": "a\nb"}, "no plain line"),
        ({"kernel": "/dev/null", "append": 7}, "no plain line"),
        ({"kernel": "/dev/null", "append": "x" * 3000}, "no plain line"),
        ({"kernel": "/dev/null", "ready": "address"}, "needs a network"),
    ],
)
def test_an_image_that_cannot_boot_is_refused(image: Mapping[str, Any], says: str) -> None:
    with pytest.raises(WspilotError) as caught:
        check_image(parse_spec(data(image=image)))
    assert says in caught.value.message


def test_the_group_decides_on_ready_before_the_image() -> None:
    image = {"kernel": "/k", "ready": "console"}
    assert parse_spec(data(image=image)).ready == "console"
    assert parse_spec(data(image=image, ready="process")).ready == "process"
    assert parse_spec(data()).ready == "agent"


def test_a_socket_has_107_bytes() -> None:
    longest = Path("/" + "d" * (107 - len("//vm1.qmp")))
    assert len(bytes(socket_path(longest, "vm1"))) == 107
    with pytest.raises(WspilotError, match="longer than the 107 bytes"):
        socket_path(Path(f"{longest}d"), "vm1")


def test_the_intent_is_enough_to_find_it_again() -> None:
    spec = parse_spec(data(image={"disk": "/i/base", "format": "raw"}))
    intent = Qemu().intent(spec, Path("/r"))
    assert json.loads(json.dumps(intent)) == {
        "uuid": UUID,
        "pid": None,
        "start": None,
        "qmp": "/r/vm1.qmp",
        "files": ["/r/vm1.qcow2"],
    }


@pytest.mark.parametrize(
    ("cpus", "memory_mib", "peak_mib"), [(1, 128, 218), (2, 256, 347), (4, 512, 605)]
)
def test_the_overhead_covers_what_was_measured(cpus: int, memory_mib: int, peak_mib: int) -> None:
    spec = parse_spec(data(cpus=cpus, memory_mib=memory_mib))
    assert peak_mib <= memory_mib + Qemu().overhead_mib(spec) <= peak_mib + 48
    assert Qemu(kvm=True).overhead_mib(spec) == Qemu().overhead_mib(spec) - 32


def test_what_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wspilot.node.vmm.qemu.PLACES", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(WspilotError) as caught:
        Qemu().check()
    assert "QEMU is not installed" in caught.value.message
    assert "qemu-system-x86" in caught.value.hint
