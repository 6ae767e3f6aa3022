"""The paper's client story on two nodes with bridges: deployed, addressed, acquainted, undone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomllib

from tests.real.bridgelease import files_of, leasing, two_nodes
from tests.real.test_ctx_osg import EXAMPLE, toml

pytestmark = pytest.mark.real
# Everybody by name and, whoever is there too, on the public network. Then what lies beyond the
# gateway, by a name that only the site's name server knows; and not the headnode, which is it.
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
ping -c 1 -W 2 192.168.77.254 >/dev/null 2>&1 && { echo "reaches the headnode"; exit 1; }
has=$(ip -4 -o addr | sed -n 's,.*inet \\(10[^/]*\\)/.*,\\1,p' | xargs)
echo "$has met $(echo $names | wc -w) $out"
"""


def test_the_osg_example_on_two_nodes_with_two_bridges_each(tmp_path: Path) -> None:
    with two_nodes() as site, leasing(site, tmp_path) as lab:
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
