"""What QEMU is told, word by word; and that no name, path or image can add a word to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.qcow2s import header
from wspilot.errors import UsageError, WspilotError
from wspilot.node.vmm.argv import (
    Wiring,
    check_image,
    qemu_argv,
    socket_path,
)
from wspilot.node.vmm.base import VmSpec, parse_spec
from wspilot.node.vmm.disks import Disk, disks_of, flat_argv, format_argv, overlay_argv
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
    root = Disk("root", "/run/a,b=c.qcow2", "/i/base", "raw")
    argv = qemu_argv(spec, Wiring("qemu", True, 3, 4, 5, disks=(root,), sandbox=False))
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
    ],
)
def test_an_image_that_cannot_boot_is_refused(image: Mapping[str, Any], says: str) -> None:
    with pytest.raises(WspilotError) as caught:
        check_image(parse_spec(data(image=image)))
    assert says in caught.value.message


def test_an_address_that_nobody_has_cannot_answer() -> None:
    image = {"kernel": "/dev/null", "ready": "address"}
    check_image(parse_spec(data(image=image)))
    for nics in ([], [{"network": "private", "mac": "52:54:00:00:00:07"}]):
        with pytest.raises(WspilotError, match="needs a NIC with an address"):
            check_image(parse_spec(data(image=image, nics=nics)))


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
    monkeypatch.setattr("wspilot.node.vmm.tools.PLACES", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(WspilotError) as caught:
        Qemu().check()
    assert "QEMU is not installed" in caught.value.message
    assert "qemu-system-x86" in caught.value.hint


# -- disks


def test_disks_come_in_order_and_are_named_after_their_vm() -> None:
    parts = [{"path": "/c/home", "format": "raw"}, {"path": "/c/opt", "format": "qcow2"}]
    blank = [{"size_mib": 64, "fs": "swap", "label": "x"}, {"size_mib": 9}]
    image = {"disk": "/c/root", "format": "qcow2", "partitions": parts, "blank": blank}
    disks = disks_of(parse_spec(data(image=image, disk_mib=4096)), Path("/r"))
    assert [(one.serial, one.path, one.base, one.mib) for one in disks] == [
        ("root", "/r/vm1.qcow2", "/c/root", 4096),
        ("part0", "/r/vm1.part0.qcow2", "/c/home", 0),
        ("part1", "/r/vm1.part1.qcow2", "/c/opt", 0),
        ("blank0", "/r/vm1.blank0.raw", "", 64),
        ("blank1", "/r/vm1.blank1.raw", "", 9),
    ]
    argv = qemu_argv(parse_spec(data(image={**image, "kernel": "/k"})), wired(disks))
    drives = [word for word in argv if word.startswith("virtio-blk-pci")]
    assert drives == [f"virtio-blk-pci,drive={one.serial},serial={one.serial}" for one in disks]
    nodes = [json.loads(argv[n + 1]) for n, word in enumerate(argv) if word == "-blockdev"]
    assert [node["driver"] for node in nodes] == ["qcow2", "qcow2", "qcow2", "raw", "raw"]
    files = Qemu().intent(parse_spec(data(image=image)), Path("/r"))["files"]
    assert files == [one.path for one in disks], "all of them go with the VM"


def wired(disks: tuple[Disk, ...]) -> Wiring:
    return Wiring("qemu", False, 3, 4, 5, disks=disks)


BAD_DISKS: Mapping[str, Mapping[str, Any]] = {
    "partitions are 'x'": {"partitions": "x"},
    "partitions hold 5": {"partitions": [5]},
    "partition 0 is {'path': 'rel'": {"partitions": [{"path": "rel", "format": "raw"}]},
    "partition 0 is": {"partitions": [{"path": "/x", "format": "vmdk"}]},
    "blank disk 0 is {'size_mib': 0}": {"blank": [{"size_mib": 0}]},
    "blank disk 0 is {'size_mib': True}": {"blank": [{"size_mib": True}]},
    "'fs': 'xfs'": {"blank": [{"size_mib": 1, "fs": "xfs"}]},
    "'label': '-F'": {"blank": [{"size_mib": 1, "label": "-F"}]},
    "'label': 'a b'": {"blank": [{"size_mib": 1, "label": "a b"}]},
    "blank are [": {"blank": [{"size_mib": 1}] * 17},
}


@pytest.mark.parametrize("says", BAD_DISKS)
def test_a_disk_that_is_none_is_refused(says: str) -> None:
    with pytest.raises(UsageError) as caught:
        disks_of(parse_spec(data(image={"kernel": "/k", **BAD_DISKS[says]})), Path("/r"))
    assert says in caught.value.message


def test_an_overlay_is_as_large_as_its_base_and_as_the_lease_type_says(tmp_path: Path) -> None:
    base = tmp_path / "-b,x"
    base.write_bytes(bytes(3 << 20))
    for mib, size in ((0, 3 << 20), (2, 3 << 20), (8, 8 << 20)):
        argv = overlay_argv("qemu-img", Disk("root", "/r/-x.qcow2", str(base), "raw", mib))
        assert argv[-3:] == ["--", "/r/-x.qcow2", str(size)] and argv[argv.index("-b") + 1] == str(
            base
        )


def test_a_base_that_names_another_file_gets_no_overlay(tmp_path: Path) -> None:
    base, overlay = tmp_path / "base.qcow2", tmp_path / "overlay.qcow2"
    base.write_bytes(header(backing=b"/etc/passwd"))
    with pytest.raises(UsageError, match="backing file"):
        overlay_argv("qemu-img", Disk("root", "/r/x", str(base), "qcow2"))
    # and an overlay that was turned to another base while its VM ran is not read for `save`
    overlay.write_bytes(header(backing=b"/etc/passwd"))
    with pytest.raises(UsageError, match="backing file"):
        flat_argv("qemu-img", Disk("root", str(overlay), "/cache/x", "raw"), "/r/flat")
    overlay.write_bytes(header(backing=b"/cache/x"))
    assert "-U" in flat_argv("qemu-img", Disk("root", str(overlay), "/cache/x", "raw"), "/r/flat")


def test_blanks_are_formatted_with_their_label() -> None:
    swap = Disk("blank0", "/r/b", mib=1, fs="swap", label="s")
    assert format_argv("mkswap", swap) == ["mkswap", "-L", "s", "/r/b"]
    ext4 = format_argv("mke2fs", Disk("blank0", "/r/b", mib=1, fs="ext4"))
    assert ext4[:5] == ["mke2fs", "-q", "-F", "-t", "ext4"] and ext4[-1] == "/r/b"
