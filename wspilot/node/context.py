"""What a guest is told when it boots: who it is, who its sisters are, what to run.

One read-only disk serves both kinds of guests: a NoCloud seed for cloud-init (label `cidata`), and
plain files beside it for wspilot's own agent (`agent.py`). Users' words travel as whole files or as
JSON (which YAML contains), never inside a line of shell.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wspilot.node import iso
from wspilot.node.agent import AGENT, CLOUD

LABEL = "cidata"
SCRIPT = "#!"
_BOUNDARY = "==wspilot=="


def make_seed(path: Path, data: Mapping[str, Any], picture: Mapping[str, Any]) -> None:
    """Write a VM's seed disk (0600), from its `create` command and its workspace's picture.

    Raises OSError; ValueError for words that cannot be told to a guest. Some 2 ms and 60 KiB.
    """
    made = iso.build(LABEL, files(data, picture))
    path.touch(mode=0o600, exist_ok=True)
    path.write_bytes(made)


def files(data: Mapping[str, Any], picture: Mapping[str, Any]) -> dict[str, bytes]:
    """The seed's files by name; see `make_seed`."""
    host = _word(data.get("host") or data.get("id"))
    members = [one for one in picture.get("members", ()) if isinstance(one, Mapping)]
    keys = [str(key) for key in picture.get("keys", ())]
    nics = [nic for nic in data.get("nics", ()) if nic.get("mac")]
    user_data, own = str(data.get("user_data") or ""), _own_key(host, data, members)
    texts = {
        "hosts": hosts(host, nics, members),
        "known_hosts": _known_hosts(members),
        "roles": _roles(members),
        "nodefile": "".join(f"{_word(one.get('host'))}\n" for one in members),
        "keys": "".join(f"{key}\n" for key in keys),
        "context": _context(host, nics),
        "script": user_data if user_data.startswith(SCRIPT) else "",
        "host_key": own["ed25519_private"],
        "host_key.pub": own["ed25519_public"],
        "agent": AGENT,
        "meta-data": json.dumps(_meta(host, data, keys), indent=1),
        "network-config": json.dumps(network_config(nics), indent=1),
        "user-data": "" if user_data.startswith(SCRIPT) else user_data,
    }
    texts["user-data"] = texts["user-data"] or "#cloud-config\n{}\n"
    texts["vendor-data"] = _vendor(texts, own)
    return {name: text.encode("utf-8", "replace") for name, text in texts.items()}


def hosts(
    host: str, nics: Iterable[Mapping[str, Any]], members: Iterable[Mapping[str, Any]]
) -> str:
    """/etc/hosts: each member by the address that this VM reaches best, and by each network."""
    mine = {str(nic.get("network")) for nic in nics}
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    for one in members:
        name = _word(one.get("host"))
        found = list(zip(map(str, one.get("networks", ())), map(str, one.get("ips", ()))))
        # What both are on comes first; of those, the network that the member names last: CE and SE
        # have `public` before `private`, and their workers reach them by the second.
        shared = [pair for pair in reversed(found) if pair[0] in mine]
        ordered = shared + [pair for pair in found if pair not in shared]
        for number, (network, ip) in enumerate(ordered):
            names = f"{name} " if number == 0 else ""
            lines.append(f"{_word(ip)} {names}{name}-{_word(network)}")
    return "\n".join(lines) + "\n"


def network_config(nics: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """cloud-init's network configuration, version 2: static, by MAC."""
    ethernets: dict[str, Any] = {}
    gateway_set = False
    for number, nic in enumerate(nics):
        one: dict[str, Any] = {"match": {"macaddress": str(nic["mac"])}, "set-name": f"eth{number}",
                               "dhcp4": False, "dhcp6": False}  # fmt: skip
        if nic.get("ip"):
            one["addresses"] = [f"{nic['ip']}/{nic.get('prefix', 24)}"]
        if nic.get("gateway") and not gateway_set:
            one["gateway4"], gateway_set = str(nic["gateway"]), True
        if nic.get("dns"):
            one["nameservers"] = {"addresses": [str(dns) for dns in nic["dns"]]}
        if nic.get("mtu"):
            one["mtu"] = int(nic["mtu"])
        ethernets[f"eth{number}"] = one
    return {"version": 2, "ethernets": ethernets}


def _meta(host: str, data: Mapping[str, Any], keys: list[str]) -> dict[str, Any]:
    return {"instance-id": str(data.get("uuid")), "local-hostname": host, "public-keys": keys}


def _own_key(
    host: str, data: Mapping[str, Any], members: Iterable[Mapping[str, Any]]
) -> dict[str, str]:
    """This VM's host key; both parts or none."""
    public = next((str(one.get("host_key")) for one in members if one.get("host") == host), "")
    private = str(data.get("host_key") or "")
    both = bool(public and private)
    return {
        "ed25519_private": private if both else "",
        "ed25519_public": f"{public} {host}\n" if both else "",
    }


def _known_hosts(members: Iterable[Mapping[str, Any]]) -> str:
    lines = []
    for one in members:
        if one.get("host_key"):
            names = ",".join([_word(one.get("host")), *map(_word, one.get("ips", ()))])
            lines.append(f"{names} {one['host_key']}\n")
    return "".join(lines)


def _roles(members: Iterable[Mapping[str, Any]]) -> str:
    """One role a line, followed by the hosts that provide it."""
    found: dict[str, list[str]] = {}
    for one in members:
        for role in one.get("provides", ()):
            found.setdefault(_word(role), []).append(_word(one.get("host")))
    return "".join(f"{role} {' '.join(names)}\n" for role, names in sorted(found.items()))


def _context(host: str, nics: Iterable[Mapping[str, Any]]) -> str:
    """What the agent reads line by line: host, and a line a NIC. Single words all."""
    lines = [f"host {host}"]
    for nic in nics:
        ip = f"{nic['ip']}/{nic.get('prefix', 24)}" if nic.get("ip") else "-"
        words = (nic["mac"], ip, nic.get("gateway") or "-", nic.get("mtu") or "-")
        lines.append("nic " + " ".join(map(_word, words)))
        lines += [f"dns {_word(dns)}" for dns in nic.get("dns", ())]
    return "\n".join(lines) + "\n"


def _word(value: object) -> str:
    """One word without anything a shell or a line could stumble over. Raises ValueError."""
    text = str(value or "")
    if not text or not all(c.isascii() and (c.isalnum() or c in "._:/-") for c in text):
        raise ValueError(f"{text[:60]!r} is no plain word: a guest is not told it")
    return text


def _vendor(texts: Mapping[str, str], own: Mapping[str, str]) -> str:
    """cloud-init's vendor data: files, host key, and the script that reports.

    Not user data: that is the user's own, and lists like `runcmd` do not add up over both.
    """
    config: dict[str, Any] = {
        "manage_etc_hosts": False,
        # The lease's keys are root's, for every guest alike (`wspilot ssh`); stock images would
        # answer root with a word of advice and close.
        "disable_root": False,
        "write_files": [
            {"path": "/etc/hosts", "content": texts["hosts"], "permissions": "0644"},
            {"path": "/etc/ssh/ssh_known_hosts", "content": texts["known_hosts"],
             "permissions": "0644"},
            *({"path": f"/etc/wspilot/{name}", "content": texts[name], "permissions": "0644"}
              for name in ("roles", "nodefile")),
            {"path": "/etc/wspilot/script", "content": texts["script"], "permissions": "0700"},
        ],
    }  # fmt: skip
    if own["ed25519_private"]:
        config["ssh_keys"] = dict(own)
        config["ssh_deletekeys"] = False
    parts = (("text/cloud-config", "#cloud-config\n" + json.dumps(config, indent=1)),
             ("text/x-shellscript", CLOUD))  # fmt: skip
    body = "".join(
        f'--{_BOUNDARY}\nContent-Type: {kind}; charset="utf-8"\nMIME-Version: 1.0\n\n{text}\n'
        for kind, text in parts
    )
    return (
        f'Content-Type: multipart/mixed; boundary="{_BOUNDARY}"\nMIME-Version: 1.0\n\n'
        f"{body}--{_BOUNDARY}--\n"
    )
