"""The paper's client story on two nodes with bridges: deployed, addressed, acquainted, undone."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomllib

from tests.real.bridgelab import Node, Site
from tests.real.lab import Lab
from tests.real.test_ctx_osg import EXAMPLE, toml
from wspilot.guest import build_guest, default_cache

pytestmark = pytest.mark.real
CONF = """\
[bridge wbr]
root = 10.77.0.0/24
[bridge wpub]
root = 10.78.0.0/24
"""
PRIVATE = 'way = "bridge"\nbridge = "wbr"'
PUBLIC = 'way = "bridge"\nbridge = "wpub"\ngateway = "10.78.0.254"\ndns = ["10.78.0.254"]'
LRM = 'nodes = {nodes}\ncores = 2\nvia = ["{via}", "{{node}}", "{{command}}"]'
# Everybody by name and, whoever is there too, on the public network. Then what lies beyond the
# gateway, by a name that only the site's name server knows.
MEETS_ALL = """#!/bin/sh
names=$(cat /etc/wspilot/nodefile)
out=inside
if grep -q " $(hostname)-public" /etc/hosts; then
  names="$names $(sed -n 's/.* //; /-public$/p' /etc/hosts) storage.example"
  out="outside by $(ip route | sed -n 's/^default via \\([^ ]*\\) .*/\\1/p')"
fi
for h in $names; do
  n=0
  until ping -c 1 -W 1 $h >/dev/null 2>&1; do
    n=$((n+1)); [ $n -gt 60 ] && { echo "no answer from $h"; exit 1; }
    sleep 1
  done
done
has=$(ip -4 -o addr | sed -n 's,.*inet \\(10[^/]*\\)/.*,\\1,p' | xargs)
echo "$has met $(echo $names | wc -w) $out"
"""


@pytest.fixture
def site() -> Iterator[Site]:
    """Nodes on two wires, the public one with a router that knows names."""
    with Site(2, CONF) as one:
        one.wire("spub", "10.78.0.254/24")
        for node in one.nodes:
            node.plug(one.name, "spub", "wpub", f"10.78.0.{240 + node.number}/24")
        for words in ("addr add 192.168.77.254/24 dev sbr", "addr add 192.0.2.77/32 dev lo",
                      "link set lo up"):  # fmt: skip
            subprocess.run(one.argv("ip", *words.split()), check=True, timeout=30)
        names = ["--address=/storage.example/192.0.2.77", "--listen-address=10.78.0.254"]
        argv = ["dnsmasq", "-k", "--conf-file=/dev/null", "--no-resolv", "--bind-interfaces"]
        server = subprocess.Popen(one.argv(*argv, *names, "--pid-file="))
        try:
            yield one
        finally:
            server.kill()
            server.wait()


@pytest.fixture
def lab(site: Site, tmp_path: Path) -> Iterator[Lab]:
    """Its daemon on the site's own host, from where both nodes are reached."""
    guest = build_guest(default_cache() / "guest", default_cache() / "deb", disk=True)
    via = tmp_path / "via"
    cases = [f'{one.name}) exec {" ".join(one.argv("sh", "-c"))} "$2" ;;' for one in site.nodes]
    via.write_text("\n".join(["#!/bin/sh", "case $1 in", *cases, "esac", ""]))
    via.chmod(0o755)
    lrm = LRM.format(nodes=[one.name for one in site.nodes], via=via).replace("'", '"')
    one = Lab(tmp_path, guest, prefix=site.argv(), way=PRIVATE, public=PUBLIC, lrm=lrm)
    try:
        assert guest.disk is not None
        files = ("--kernel", str(guest.disk["kernel"]), "--initrd", str(guest.disk["initrd"]))
        more = ("--context", "patch", "--append", str(guest.disk["append"]))
        one.cli("images", "add", "patched", str(guest.disk["disk"]), *files, *more)
        yield one
    finally:
        one.close()
        for top in (place for node in site.nodes for place in places_of(node)):
            shutil.rmtree(top, ignore_errors=True)


def places_of(node: Node) -> list[Path]:
    return [Path(top) / f"wspilot-{os.getuid()}" / node.name for top in ("/tmp", "/var/tmp")]


def files_of(node: Node) -> list[str]:
    """What a pilot has on a node, but for the images in its cache."""
    return [
        str(path)
        for top in places_of(node)
        for path in sorted(top.rglob("*"))
        if not path.is_dir() and path.parent.name != "images" and path.name != "boot_id"
    ]


def test_the_osg_example_on_two_nodes_with_two_bridges_each(
    site: Site, lab: Lab, tmp_path: Path
) -> None:
    doc: dict[str, Any] = tomllib.loads(EXAMPLE.read_text())
    for group in doc["group"]:
        group.update(user_data=MEETS_ALL, placement="pack")  # two a node
        if "public" in group["nics"]:
            group["image"] = "patched"  # which knows its addresses by DHCP alone
    lab.cli("deploy", toml(doc, tmp_path / "osg.toml"), "--wait", "--timeout", "280")
    ws = lab.until("osg", lambda ws: all(vm["context"] in ("ok", "error") for vm in ws["vms"]))
    said = {vm["name"]: vm["said"] for vm in ws["vms"]}
    ips = {vm["name"]: " ".join(nic["ip"] for nic in vm["nics"]) for vm in ws["vms"]}
    assert said == {
        "osg/ce/1": f"{ips['osg/ce/1']} met 7 outside by 10.78.0.254",
        "osg/se/1": f"{ips['osg/se/1']} met 7 outside by 10.78.0.254",
        "osg/worker/1": f"{ips['osg/worker/1']} met 4 inside",
        "osg/worker/2": f"{ips['osg/worker/2']} met 4 inside",
    }
    assert {vm["node"] for vm in ws["vms"]} == {one.name for one in site.nodes}
    assert "4 of 4 members say ok" in lab.run("show", "osg").stdout

    for node in site.nodes:  # where it is: so that its absence afterwards means something
        mine = [vm for vm in ws["vms"] if vm["node"] == node.name]
        taps = [f"ws{vm['id']}.{n}" for vm in mine for n in range(len(vm["nics"]))]
        rules = node.host("nft", "list", "table", "bridge", "wspilot")
        for tap in taps:
            assert tap in rules
        left = node.left()
        assert {one for one in left if one.startswith("ws")} == set(taps)
        assert {f"/var/lib/wspilot/{tap}.tap" for tap in taps} <= set(left)
        bridges = {nic["network"] for vm in mine for nic in vm["nics"]}
        assert sum(one.startswith("dnsmasq ") for one in left) == len(bridges)
        assert files_of(node)
    lab.cli("destroy", "osg", "--yes", "--timeout", "60")
    assert [one.left() for one in site.nodes] == [[], []]
    running = [name for one in site.nodes for name in one.processes().values()]
    assert not [name for name in running if name.startswith("qemu")]
    assert [files_of(one) for one in site.nodes] == [[], []]
