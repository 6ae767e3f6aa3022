"""`wspilot images add`: whole or not at all, and nothing that a node would refuse later."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.unit.node.imageyard import Web
from tests.unit.qcow2s import header
from tests.unit.sites import site
from wspilot import imageadd
from wspilot.cli import main
from wspilot.errors import WspilotError
from wspilot.imageadd import Wish, add
from wspilot.images import load_images

SITE = "[site]\nvmm = 'qemu'\n"


def quiet(what: str, done: int, of: int) -> None:
    pass


class Shelf:
    """A repository, and files to put into it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.repository = place / "images"
        self.site = site(f"{SITE}images = '{self.repository}'")
        (place / "kernel").write_bytes(b"kernel")
        (place / "disk.qcow2").write_bytes(header())
        (place / "disk.raw").write_bytes(bytes(2048))

    def path(self, name: str) -> str:
        return str(self.place / name)

    def add(self, **wish: Any) -> Any:
        return add(self.site, Wish("mine", **wish), quiet)

    def refused(self, **wish: Any) -> str:
        with pytest.raises(WspilotError) as caught:
            self.add(**wish)
        there = list(self.repository.iterdir()) if self.repository.is_dir() else []
        assert there == [], "nothing is left of it"
        return f"{caught.value.message} ({caught.value.hint})"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_what_was_added_is_what_a_node_gets(shelf: Shelf) -> None:
    told: list[tuple[str, int, int]] = []
    add(
        shelf.site,
        Wish("mine", shelf.path("disk.qcow2"), kernel=shelf.path("kernel"), append="root=/dev/vda",
             partitions=(f"{shelf.path('disk.raw')}:home",), blank=("64MiB:ext4:scratch", "1GiB"),
             more={"ready": "console", "pattern": "up", "memory_mib": 256}),
        lambda *word: told.append(word),
    )  # fmt: skip
    image = load_images(shelf.repository, shelf.site)["mine"]
    assert (image.fault, image.kind, image.ready, image.memory_mib) == (
        "",
        "kernel",
        "console",
        256,
    )
    spec = image.spec()
    assert spec["files"]["disk"]["sha256"] == hashlib.sha256(header()).hexdigest()
    assert spec["partitions"] == [{"format": "raw", "role": "home"}]
    assert spec["blank"] == [{"size_mib": 64, "fs": "ext4", "label": "scratch"},
                             {"size_mib": 1024, "fs": "none", "label": ""}]  # fmt: skip
    assert set(spec["files"]) == {"kernel", "disk", "part0"}
    assert ("vmlinuz", 6, 6) in told
    with pytest.raises(WspilotError, match="exists already"):
        shelf.add(disk=shelf.path("disk.raw"))
    assert len(list(shelf.repository.iterdir())) == 1


def test_a_download_that_breaks_off_is_not_taken_for_the_whole(shelf: Shelf) -> None:
    """Of a kernel nothing but the server's word tells how long it is."""

    class Short(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 600)

        def log_message(self, *args: Any) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Short)
    thread = threading.Thread(target=server.handle_request, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/vmlinuz"
        assert "is truncated: 600 of 1000 bytes" in shelf.refused(kernel=url)
    finally:
        thread.join(10)
        server.server_close()


SSH = """#!/bin/sh
# ssh, as far as this test needs it: the far side's shell gets the command as one text.
while [ "$1" != -- ]; do shift; done
[ "$2" = me@far ] || { echo "Permission denied (publickey)." >&2; exit 255; }
shift 2
exec sh -c "$*"
"""


def test_a_file_is_fetched_by_ssh(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    (shelf.place / "bin").mkdir()
    ssh = shelf.place / "bin" / "ssh"
    ssh.write_text(SSH)
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    odd = shelf.place / "it's $(a) disk"
    odd.write_bytes(header())
    far = f"ssh://me@far{odd}"
    assert "none: No such file" in shelf.refused(disk=f"ssh://me@far{shelf.place}/none")
    assert "ssh: Permission denied" in shelf.refused(disk=f"ssh://you@far{odd}")
    assert "is no URL that can be fetched" in shelf.refused(disk="ssh://-oProxyCommand=x/d")
    linked = add(shelf.site, Wish("far", far, link=True), quiet)
    assert linked["urls"] == {"root.qcow2": far}
    made = shelf.add(disk=far)
    assert made["sha256"]["root.qcow2"] == hashlib.sha256(header()).hexdigest()
    assert made["sha256"] == linked["sha256"]


def test_a_url_is_copied_or_left_where_it_is(shelf: Shelf) -> None:
    with Web({"/d": header(), "/short": header()[:90_000]}) as web:
        shelf.add(disk=f"{web.url}/d")
        linked = add(shelf.site, Wish("far", f"{web.url}/d", link=True), quiet)
        assert linked["urls"] == {"root.qcow2": f"{web.url}/d"}
        found = load_images(shelf.repository, shelf.site)
        assert found["far"].spec()["files"]["disk"]["url"] == f"{web.url}/d"
        assert found["mine"].files["disk"].where.startswith("/")
        assert found["far"].files["disk"].sha256 == found["mine"].files["disk"].sha256
        with pytest.raises(WspilotError, match="truncated"):
            add(shelf.site, Wish("short", f"{web.url}/short"), quiet)
        with pytest.raises(WspilotError, match="404"):
            add(shelf.site, Wish("none", f"{web.url}/none"), quiet)
    assert sorted(path.name for path in shelf.repository.iterdir()) == ["far", "mine"]


def test_what_is_refused(shelf: Shelf) -> None:
    place = shelf.place
    (place / "hostile").write_bytes(header(backing=b"/etc/shadow"))
    (place / "data").write_bytes(header(extension=(0x44415441, b"/etc/shadow")))
    (place / "vmdk").write_bytes(b"KDMV" + bytes(508))
    (place / "odd").write_bytes(bytes(700))
    disk, kernel = shelf.path("disk.qcow2"), shelf.path("kernel")
    assert "backing file (/etc/shadow)" in shelf.refused(disk=shelf.path("hostile"))
    assert "external data file" in shelf.refused(disk=shelf.path("data"))
    assert "is a VMDK" in shelf.refused(disk=shelf.path("vmdk"))
    assert "no whole number of sectors" in shelf.refused(disk=shelf.path("odd"))
    assert "is not a qcow2" in shelf.refused(disk=shelf.path("disk.raw"), format="qcow2")
    assert "--format: one of" in shelf.refused(disk=disk, format="vmdk")
    assert "--ready: one of" in shelf.refused(disk=disk, more={"ready": "soon"})
    assert "--blank" in shelf.refused(disk=disk, blank=("1GiB:xfs",))
    assert "is not a size" in shelf.refused(disk=disk, blank=("1",))
    assert "is not there" in shelf.refused(disk=shelf.path("nothing"))
    assert "no regular file" in shelf.refused(disk="/dev/zero")
    assert "is no URL" in shelf.refused(disk="ftp://host/x")
    assert "is no file's name" in shelf.refused(disk="/a\nb")
    assert "need a --kernel" in shelf.refused(disk=disk, initrd=kernel)
    assert "needs a disk" in shelf.refused()
    assert "give a --kernel" in shelf.refused(partitions=(disk,))
    assert "append must be one line" in shelf.refused(kernel=kernel, append="a\nb")
    for name in ("../up", "a/b", "a\nb", "", "-x", "A", "x" * 33):
        with pytest.raises(WspilotError, match="is not a name"):
            add(shelf.site, Wish(name, disk), quiet)


def test_a_full_disk_or_ctrl_c_leaves_nothing(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (OSError(28, "No space left on device"), KeyboardInterrupt()):

        def fails(*_: Any, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(imageadd, "synced", fails)
        with pytest.raises(type(error)):
            shelf.add(disk=shelf.path("disk.qcow2"))
        assert list(shelf.repository.iterdir()) == []


def test_on_the_command_line(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    config = shelf.place / "site.toml"
    config.write_text(f"{SITE}images = '{shelf.repository}'\n")
    words = ["--home", str(shelf.place / "home"), "images", "add", "mine"]
    more = ["--config", str(config), "--ready", "process", "--json"]
    assert main([*words, shelf.path("disk.raw"), *more]) == 0
    doc = json.loads(capsys.readouterr().out)
    assert doc["image"]["format"] == "raw" and doc["image"]["ready"] == "process"
    assert main([*words, shelf.path("disk.raw"), *more]) == 5
    assert main([*words[:-1], *more]) == 2
    assert main([*words[:-1], "x", shelf.path("none"), *more]) == 4
