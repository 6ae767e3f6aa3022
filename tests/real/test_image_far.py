"""Images from hosts that are reached by a real sshd, and by TLS: brought whole, or why not."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.real.farhosts import FarHost, certificate, far_host
from tests.unit.node.imageyard import Web, disk, ground, image
from tests.unit.sites import site
from wspilot.errors import WspilotError
from wspilot.imageadd import Wish, add
from wspilot.images import load_images
from wspilot.node.images import Images
from wspilot.node.images.source import opened
from wspilot.node.images.wanted import wanted

pytestmark = pytest.mark.real
ODD = "it's $(touch oops); a disk"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Images]:
    one = Images(ground(tmp_path / "node", "n1"))
    yield one
    await one.close()
    assert dict(one._ground.journal.entries) == {}
    assert not list((tmp_path / "node").glob("**/*.part")), "no part of what was refused"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FarHost]:
    with far_host(tmp_path / "far") as one:
        monkeypatch.setenv("PATH", f"{one.place}/bin:{os.environ['PATH']}")
        yield one


async def refused(node: Images, where: str, data: bytes) -> str:
    with pytest.raises(WspilotError) as caught:
        await node.propagate("vm1", image(where, data), lambda done: None)
    return f"{caught.value.message} ({caught.value.hint})"


async def brought(node: Images, where: str, data: bytes) -> None:
    got = await node.propagate("vm1", image(where, data), lambda done: None)
    assert Path(got["disk"]).read_bytes() == data
    node.release("vm1")
    Path(got["disk"]).unlink()


async def test_an_image_comes_through_sshd_or_it_is_told_why_not(
    host: FarHost, node: Images, tmp_path: Path
) -> None:
    data, where = disk(tmp_path / "d" / ODD), f"{host.url}{tmp_path}/d/{ODD}"
    await brought(node, where, data)
    [file] = wanted(image(where, data))
    with opened(file, len(data) - 700) as read:  # where a sister's copy broke off
        assert b"".join(iter(read, b"")) == data[-700:]

    here = site(f"[site]\nvmm = 'qemu'\nimages = '{tmp_path / 'images'}'")
    add(here, Wish("far", where, link=True), lambda *word: None)
    spec = load_images(tmp_path / "images", here)["far"].spec()
    assert spec["files"]["disk"]["url"] == where
    got = await node.propagate("vm1", spec, lambda done: None)
    assert Path(got["disk"]).read_bytes() == data
    node.release("vm1")
    Path(got["disk"]).unlink()

    assert "No such file" in await refused(node, f"{host.url}{tmp_path}/none", data)
    host.locked()
    assert "Permission denied (publickey)" in await refused(node, where, data)
    host.strange()
    assert "Host key verification failed" in await refused(node, where, data)


async def test_an_image_comes_by_tls_from_a_server_that_is_trusted_and_from_no_other(
    node: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = disk(tmp_path / "d")
    here = site(f"[site]\nvmm = 'qemu'\nimages = '{tmp_path / 'images'}'")
    tls, trusted = certificate(tmp_path)
    with Web({"/d": data}, tls=tls) as web:
        said = await refused(node, f"{web.url}/d", data)
        assert "its certificate is not trusted: self-signed certificate (" in said
        assert "SSL_CERT_FILE" in said
        with pytest.raises(WspilotError, match="its certificate is not trusted"):
            add(here, Wish("far", f"{web.url}/d"), lambda *word: None)
        assert web.sent == 0, "and nothing was asked of it"

        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        await brought(node, f"{web.url}/d", data)
        add(here, Wish("far", f"{web.url}/d"), lambda *word: None)
        assert (tmp_path / "images" / "far" / "root.img").read_bytes() == data
        other = web.url.replace("127.0.0.1", "localhost")  # another name than the certificate's
        assert "is not trusted: Hostname mismatch" in await refused(node, f"{other}/d", data)
