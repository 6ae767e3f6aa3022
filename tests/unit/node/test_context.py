"""The seed disk: read back as what it is, with words from hostile mouths."""

from __future__ import annotations

import json
import subprocess
import time
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from wspilot.node import context, iso
from wspilot.node.agent import AGENT, CLOUD


def nic(network: str, last: int, **more: Any) -> dict[str, Any]:
    ip = f"10.77.0.{last}"
    return {"network": network, "mac": f"02:57:0a:4d:00:{last:02x}", "ip": ip, "prefix": 24, **more}


def member(host: str, *nics: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"host": host, "networks": [one["network"] for one in nics],
            "ips": [one["ip"] for one in nics], **more}  # fmt: skip


CE = member("ce-1", nic("public", 9), nic("private", 2), provides=["ce"], host_key="ssh-ed25519 A")
WORKER = member("worker-1", nic("private", 3), provides=["worker"], host_key="ssh-ed25519 B")
PICTURE = {"members": [CE, WORKER], "keys": ["ssh-ed25519 K me"]}
DATA = {"id": "v1", "uuid": "u", "host": "worker-1", "nics": [nic("private", 3, mtu=1400)]}


def test_every_member_has_a_name_by_the_network_that_both_are_on() -> None:
    texts = context.files(DATA, PICTURE)
    lines = texts["hosts"].decode().splitlines()
    assert "10.77.0.2 ce-1 ce-1-private" in lines and "10.77.0.9 ce-1-public" in lines
    assert texts["roles"].decode() == "ce ce-1\nworker worker-1\n"
    assert texts["nodefile"].decode() == "ce-1\nworker-1\n"
    assert "worker-1,10.77.0.3 ssh-ed25519 B" in texts["known_hosts"].decode()


def test_cloud_init_gets_addresses_keys_and_our_own_script_beside_the_users() -> None:
    data = {**DATA, "host_key": "PRIVATE\n", "user_data": "#cloud-config\npackages: [x]\n"}
    texts = context.files(data, PICTURE)
    ether = json.loads(texts["network-config"])["ethernets"]["eth0"]
    assert ether["addresses"] == ["10.77.0.3/24"] and ether["mtu"] == 1400
    assert ether["match"] == {"macaddress": "02:57:0a:4d:00:03"}
    meta = json.loads(texts["meta-data"])
    assert meta == {"instance-id": "u", "local-hostname": "worker-1",
                    "public-keys": ["ssh-ed25519 K me"]}  # fmt: skip
    assert texts["user-data"] == b"#cloud-config\npackages: [x]\n" and texts["script"] == b""
    config, script = message_from_bytes(texts["vendor-data"]).get_payload()  # type: ignore[misc]
    vendor = json.loads(config.get_payload().partition("\n")[2])  # type: ignore[union-attr]
    assert vendor["ssh_keys"]["ed25519_private"] == "PRIVATE\n"
    assert script.get_payload().startswith("#!/bin/sh")  # type: ignore[union-attr]


def test_a_users_script_is_run_by_our_reporter_and_not_twice() -> None:
    texts = context.files({**DATA, "user_data": "#!/bin/sh\necho hi\n"}, PICTURE)
    assert texts["script"] == b"#!/bin/sh\necho hi\n"
    assert texts["user-data"] == b"#cloud-config\n{}\n"


@pytest.mark.parametrize("bad", ["a b", "x;reboot", "$(id)", "a\nnic x", "", "é", "`x`"])
def test_no_word_can_become_a_line_or_a_command(bad: str) -> None:
    with pytest.raises(ValueError, match="plain word"):
        context.files(DATA, {"members": [member(bad, nic("private", 3))]})
    with pytest.raises(ValueError, match="plain word"):
        context.files({**DATA, "nics": [nic("private", 3, gateway=bad or " ")]}, PICTURE)


def test_user_data_may_hold_anything() -> None:
    hostile = "#!/bin/sh\n'\"$(x)`y`\n==wspilot==\n\x1b[2J\n"
    texts = context.files({**DATA, "user_data": hostile}, PICTURE)
    assert texts["script"].decode() == hostile
    vendor = message_from_bytes(texts["vendor-data"]).get_payload()
    assert len(vendor) == 2


def test_a_thousand_members_take_no_time_and_little_room(tmp_path: Path) -> None:
    members = [member(f"w-{n}", nic("private", n % 250), provides=["w"]) for n in range(1000)]
    start = time.perf_counter()
    context.make_seed(tmp_path / "seed", DATA, {"members": members})
    assert time.perf_counter() - start < 2  # some 10 ms
    assert (tmp_path / "seed").stat().st_size < 1 << 20
    assert (tmp_path / "seed").stat().st_mode & 0o777 == 0o600


def test_the_disk_is_an_iso_that_others_read(tmp_path: Path) -> None:
    files = {f"file-{n}": bytes([n]) * n * 100 for n in range(100)}
    (tmp_path / "x").write_bytes(iso.build("cidata", {"meta-data": b"hello", **files}))
    assert _read(tmp_path / "x") == {"meta-data": b"hello", **files}
    done = subprocess.run(["blkid", "-p", "-o", "value", "-s", "LABEL", str(tmp_path / "x")],
                          capture_output=True, check=True)  # fmt: skip
    assert done.stdout == b"cidata\n"


def _read(path: Path) -> dict[str, bytes]:
    """What ECMA-119 says is there, read independently of how it was written."""
    raw = path.read_bytes()
    volume = raw[16 * 2048 : 17 * 2048]
    assert volume[1:6] == b"CD001" and int.from_bytes(volume[80:84], "little") * 2048 == len(raw)
    root = volume[156:190]
    at, size = int.from_bytes(root[2:6], "little") * 2048, int.from_bytes(root[10:14], "little")
    found, end = {}, at + size
    while at < end:
        length = raw[at]
        if not length:
            at = (at // 2048 + 1) * 2048
            continue
        one = raw[at : at + length]
        name, start = one[33 : 33 + one[32]], int.from_bytes(one[2:6], "little") * 2048
        if name not in (b"\0", b"\1"):
            shown = name.decode().lower().partition(";")[0]
            found[shown] = raw[start : start + int.from_bytes(one[10:14], "little")]
        at += length
    return found


@pytest.mark.parametrize("bad", ["", "a/b", "A", "x" * 31, "a b"])
def test_a_name_that_the_disk_cannot_hold_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="name on the disk"):
        iso.build("x", {bad: b""})


@pytest.mark.parametrize("text", [AGENT, CLOUD])
def test_what_runs_in_guests_is_posix_shell(text: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text(text)
    subprocess.run(["dash", "-n", str(tmp_path / "x")], check=True)
