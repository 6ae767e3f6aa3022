"""The image repository: what is read, what is refused, and that a broken entry hides nothing."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.unit.qcow2s import header
from tests.unit.sites import site
from wspilot import imagefiles
from wspilot.imagefiles import File, together
from wspilot.images import Image, load_images

QEMU, SIM = site("[site]\nvmm = 'qemu'"), site()


def make(repository: Path, name: str, doc: Any, *files: str) -> Path:
    place = repository / name
    place.mkdir()
    for file in files:
        (place / file).write_text(file)
    (place / "image.json").write_text(doc if isinstance(doc, str) else json.dumps(doc))
    return place


def known(path: Path) -> File:
    data = path.read_bytes()
    return File(path.name, str(path), hashlib.sha256(data).hexdigest(), len(data))


def test_vmm_sim_has_two_images_built_in_and_qemu_none(tmp_path: Path) -> None:
    assert load_images(tmp_path / "none", SIM) == {
        "default": Image("default"), "small": Image("small"),
    }  # fmt: skip
    assert load_images(tmp_path, QEMU) == {}


def test_the_guest_as_its_builder_writes_it_names_no_files(tmp_path: Path) -> None:
    doc = {"schema": 1, "kind": "kernel", "digest": "ab" * 32, "recipe": "x", "append": "quiet",
           "ready": "agent", "pattern": "login:", "sizes": {}, "packages": ["a.deb"]}  # fmt: skip
    place = make(tmp_path, "default", doc, "vmlinuz", "initrd")
    image = load_images(tmp_path, QEMU)["default"]
    files = {role: known(place / name) for role, name in (("kernel", "vmlinuz"),
                                                          ("initrd", "initrd"))}  # fmt: skip
    assert image == Image(
        "default", "kernel", str(place / "vmlinuz"), str(place / "initrd"), "quiet",
        digest="ab" * 32, files=files,
    )  # fmt: skip
    assert image.spec() == {
        "name": "default", "kind": "kernel", "kernel": str(place / "vmlinuz"),
        "initrd": str(place / "initrd"), "append": "quiet", "disk": "", "format": "",
        "pattern": "login:", "context": "agent", "console": "ttyS0", "digest": "ab" * 32,
        "partitions": [], "blank": [],
        "files": {
            "kernel": {"path": str(place / "vmlinuz"), "name": "vmlinuz", "bytes": 7,
                       "sha256": hashlib.sha256(b"vmlinuz").hexdigest()},
            "initrd": {"path": str(place / "initrd"), "name": "initrd", "bytes": 6,
                       "sha256": hashlib.sha256(b"initrd").hexdigest()},
        },
    }  # fmt: skip


def test_a_disk_image_with_everything_said(tmp_path: Path) -> None:
    doc = {"name": "deb", "kind": "disk", "disk": "d.img", "format": "raw", "ready": "console",
           "pattern": "deb login:", "memory_mib": 512}  # fmt: skip
    place = make(tmp_path, "deb", doc)
    (place / "d.img").write_bytes(bytes(1024))
    file = known(place / "d.img")
    assert load_images(tmp_path, QEMU)["deb"] == Image(
        "deb", "disk", disk=str(place / "d.img"), format="raw", ready="console",
        pattern="deb login:", memory_mib=512, digest=together({"disk": file}),
        files={"disk": file},
    )  # fmt: skip


KERNEL = {"kind": "kernel"}
FAR = "ssh://ann@store.example/images/d.qcow2"
BAD: dict[str, tuple[Any, str]] = {
    "no-json": ("{", "image.json: Expecting property name"),
    "deep": ("[" * 60_000, "image.json: maximum recursion depth"),
    "huge": (" " * 70_000, "image.json: is larger than 65536 bytes"),
    "no-object": ([], "image.json: is not one object"),
    "other-name": ({**KERNEL, "name": "x\x1b[0m"}, "image.json: name: x[0m is not the folder's"),
    "no-kind": ({}, "image.json: kind must be one of kernel, disk, sim"),
    "list-kind": ({"kind": ["sim"]}, "kind must be one of"),
    "pretence": ({"kind": "sim"}, "kind sim needs vmm sim, not qemu"),
    "bad-ready": ({**KERNEL, "ready": "soon"}, "ready must be one of agent, address, console"),
    "bad-format": ({"kind": "disk", "disk": "vmlinuz", "format": "vmdk"}, "format must be one of"),
    "no-kernel": ({**KERNEL, "kernel": "bzImage"}, "kernel: bzImage is not there"),
    "no-disk": ({"kind": "disk"}, "disk: root.qcow2 is not there"),
    "up": ({**KERNEL, "kernel": "../up/../../x"}, "kernel: ../up/../../x lies outside"),
    "absolute": ({**KERNEL, "initrd": "/etc/passwd"}, "initrd: /etc/passwd lies outside"),
    "folder": ({**KERNEL, "initrd": "."}, "initrd: . is not there"),
    "number": ({**KERNEL, "initrd": 5}, "initrd must be the name of a file"),
    "nul": ({**KERNEL, "initrd": "a\0b"}, "initrd must be the name of a file"),
    "long": ({**KERNEL, "initrd": "a" * 5000}, "initrd must be the name of a file"),
    "two-lines": ({**KERNEL, "append": "a\nb"}, "append must be one line of at most 2000"),
    "memory": ({**KERNEL, "memory_mib": "512"}, "memory_mib must be a number of MiB"),
    "memory-true": ({**KERNEL, "memory_mib": True}, "memory_mib must be a number of MiB"),
    "memory-less": ({**KERNEL, "memory_mib": -1}, "memory_mib must be a number of MiB"),
    "cut": ({**KERNEL, "sizes": {"vmlinuz": 9}}, "vmlinuz is truncated: it has 7 bytes, not 9"),
    "grown": ({**KERNEL, "sizes": {"vmlinuz": 5}}, "kernel: vmlinuz has 7 bytes, not 5"),
    "no-size": ({**KERNEL, "sizes": {"vmlinuz": "7"}}, "sizes: vmlinuz must be a number"),
    "no-sizes": ({**KERNEL, "sizes": [7]}, "sizes must be a table"),
    "no-sum": ({**KERNEL, "sha256": {"vmlinuz": "ab"}}, "sha256: vmlinuz must be 64 hex digits"),
    "no-url": ({**KERNEL, "urls": {"vmlinuz": "file:///etc/passwd"}}, "must be an http, https or"),
    "url-word": ({**KERNEL, "urls": {"vmlinuz": "ssh://-oProxyCommand=x/y"}}, "must be an http"),
    "url-line": ({**KERNEL, "urls": {"vmlinuz": "http://a/b\nc"}}, "must be an http, https or ssh"),
    "url-alone": ({**KERNEL, "urls": {"vmlinuz": "http://a/b"}}, "needs its `sizes` and `sha256`"),
    "no-context": ({**KERNEL, "context": "magic"}, "context must be one of agent, cloud-init"),
    "not-qcow2": ({"kind": "disk", "disk": "vmlinuz"}, "disk: vmlinuz is not a qcow2"),
    "not-whole": ({"kind": "disk", "disk": "vmlinuz", "format": "raw"}, "is it truncated?"),
    "parts": ({**KERNEL, "partitions": {}}, "partitions must be a list of at most 16 tables"),
    "part-key": ({**KERNEL, "partitions": [{"path": "/x"}]}, "partitions[0] must be a table of"),
    "part-up": ({**KERNEL, "partitions": [{"file": "../x"}]}, "partitions[0].file: ../x lies"),
    "part-line": ({**KERNEL, "partitions": [{"file": "a", "role": "a\nb"}]}, "role must be one"),
    "blank-fs": ({**KERNEL, "blank": [{"size": "1GiB", "fs": "xfs"}]}, "blank[0].fs must be one"),
    "blank-size": ({**KERNEL, "blank": [{"size": 5}]}, "blank[0].size: 5 is not a size"),
    "blank-label": ({**KERNEL, "blank": [{"size": "1MiB", "label": "-x"}]}, "blank[0].label must"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_broken_image_is_listed_with_the_reason_and_hides_no_other(
    tmp_path: Path, name: str
) -> None:
    doc, words = BAD[name]
    make(tmp_path, name, doc, "vmlinuz")
    make(tmp_path, "good", KERNEL, "vmlinuz")
    found = load_images(tmp_path, QEMU)
    assert set(found) == {name, "good"} and found["good"].fault == ""
    assert words in found[name].fault and found[name].fault.isprintable()


def test_links_may_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    place = make(tmp_path, "linked", KERNEL, "real")
    (place / "vmlinuz").symlink_to("../secret")
    assert "lies outside" in load_images(tmp_path, QEMU)["linked"].fault
    (place / "vmlinuz").unlink()
    (place / "vmlinuz").symlink_to("real")
    assert load_images(tmp_path, QEMU)["linked"].kernel == str(place / "real")


def test_a_pipe_is_not_waited_for_and_a_loop_is_not_followed(tmp_path: Path) -> None:
    for name in ("pipe", "loop", "empty", "Bad Name"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "pipe" / "image.json")
    (tmp_path / "loop" / "image.json").symlink_to("image.json")
    (tmp_path / "a-file").write_text("x")
    (tmp_path / ".hidden").mkdir()
    faults = {name: image.fault for name, image in load_images(tmp_path, QEMU).items()}
    assert set(faults) == {"pipe", "loop", "empty", "Bad Name"}
    assert faults["pipe"] == faults["empty"] == "image.json: is not there"
    assert faults["loop"] and "is not a name" in faults["Bad Name"]


def test_a_digest_nobody_wrote_is_computed_once_for_each_state_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make(tmp_path, "deb", KERNEL, "vmlinuz")
    asked: list[str] = []
    real = imagefiles.digest
    monkeypatch.setattr(imagefiles, "digest", lambda path: asked.append(path.name) or real(path))
    for _ in range(3):
        assert load_images(tmp_path, QEMU)["deb"].files["kernel"] == known(place / "vmlinuz")
    assert asked == ["vmlinuz"]
    (place / "vmlinuz").write_text("another")
    assert load_images(tmp_path, QEMU)["deb"].files["kernel"] == known(place / "vmlinuz")
    assert len(asked) == 2
    monkeypatch.setattr(imagefiles, "HASHED_MAX", 3)
    assert "too large to compute" in load_images(tmp_path, QEMU)["deb"].fault


def test_an_image_may_lie_elsewhere(tmp_path: Path) -> None:
    doc = {"kind": "disk", "disk": "d", "format": "qcow2", "sizes": {"d": 5},
           "sha256": {"d": "ab" * 32}, "urls": {"d": FAR}}  # fmt: skip
    make(tmp_path, "far", doc)
    image = load_images(tmp_path, QEMU)["far"]
    assert image.fault == "" and image.spec()["files"]["disk"] == {
        "url": FAR, "name": "d", "sha256": "ab" * 32,
        "bytes": 5,
    }  # fmt: skip


@pytest.mark.parametrize("says", ["backing file", "external data file"])
def test_a_qcow2_that_names_another_file_is_refused(tmp_path: Path, says: str) -> None:
    place = make(tmp_path, "bad", {"kind": "disk", "disk": "d"})
    make(tmp_path, "good", KERNEL, "vmlinuz")
    hostile = header(backing=b"/etc/shadow") if says[0] == "b" else header(incompatible=4)
    (place / "d").write_bytes(hostile)
    found = load_images(tmp_path, QEMU)
    assert says in found["bad"].fault and found["good"].fault == ""


def superblock(magic: bytes = b"\x53\xef") -> bytes:
    return (bytes(1024 + 56) + magic + b"\1\0").ljust(4096, b"\0")


def test_an_image_that_is_to_be_patched_has_to_be_an_ext4(tmp_path: Path) -> None:
    good = {"kind": "disk", "context": "patch", "disk": "d", "format": "raw"}
    place = make(tmp_path, "a", good)
    (place / "d").write_bytes(superblock())
    assert load_images(tmp_path, QEMU)["a"].fault == ""
    (place / "d").write_bytes(superblock(b"XX"))
    assert "context patch: d holds no ext2" in load_images(tmp_path, QEMU)["a"].fault
    # Nobody is kept from using it with a seed.
    (place / "image.json").write_text(json.dumps({**good, "context": "cloud-init"}))
    assert load_images(tmp_path, QEMU)["a"].fault == ""


def test_what_is_patched_is_the_disk_or_the_partition_that_is_the_root(tmp_path: Path) -> None:
    parts = [{"file": "home", "role": "/home"}, {"file": "root", "role": "/"}]
    doc = {"kind": "kernel", "context": "patch", "kernel": "k", "partitions": parts}
    place = make(tmp_path, "a", doc, "k")
    (place / "home").write_bytes(bytes(4096))
    (place / "root").write_bytes(superblock())
    assert load_images(tmp_path, QEMU)["a"].fault == ""
    (place / "root").write_bytes(bytes(4096))
    assert "context patch: root holds no" in load_images(tmp_path, QEMU)["a"].fault
    none = {"kind": "kernel", "context": "patch", "kernel": "k"}
    (place / "image.json").write_text(json.dumps(none))
    assert "needs a disk or a partition" in load_images(tmp_path, QEMU)["a"].fault
