"""A whole wspilot on nodes with two bridges each: its daemon on the site's own host, pilots started
on the nodes as by ssh, guests that take their addresses by DHCP and others that are told them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.real.bridgelab import Node, Site
from tests.real.builtin import files_below
from tests.real.lab import Lab
from wspilot.guest import build_guest, default_cache

ROUTER, OUTSIDE = "10.78.0.254", "192.0.2.77"  # what lies beyond it: storage.example
CONF = """\
[bridge wbr]
root = 10.77.0.0/24
[bridge wpub]
root = 10.78.0.0/24
"""
PRIVATE = 'way = "bridge"\nbridge = "wbr"'
PUBLIC = f'way = "bridge"\nbridge = "wpub"\ngateway = "{ROUTER}"\ndns = ["{ROUTER}"]'


@contextlib.contextmanager
def two_nodes() -> Iterator[Site]:
    """On two wires, the public one with a router that knows names."""
    with Site(2, CONF) as one:
        one.wire("spub", f"{ROUTER}/24")
        for node in one.nodes:
            node.plug(one.name, "spub", "wpub", f"10.78.0.{240 + node.number}/24")
        one.run("ip", "addr", "add", "192.168.77.254/24", "dev", "sbr")
        _outside(one)
        words = f"--bind-interfaces --listen-address={ROUTER} --address=/storage.example/{OUTSIDE}"
        argv = ["dnsmasq", "-k", "--conf-file=/dev/null", "--no-resolv", "--pid-file="]
        server = subprocess.Popen(one.argv(*argv, *words.split()))
        try:
            yield one
        finally:
            server.kill()
            server.wait()


def _outside(site: Site) -> None:
    """A host beyond the router, which is the site's own host, where the daemon runs too."""
    site.host("far")
    far = f"{site.name}far"
    for words in (f"link add out type veth peer name in0 netns {far}",
                  "addr add 192.0.2.1/24 dev out", "link set out up",
                  f"-n {far} addr add {OUTSIDE}/24 dev in0", f"-n {far} link set in0 up",
                  f"-n {far} route add default via 192.0.2.1"):  # fmt: skip
        site.run("ip", *words.split())
    site.run("sysctl", "-qw", "net.ipv4.ip_forward=1")


@contextlib.contextmanager
def leasing(site: Site, place: Path) -> Iterator[Lab]:
    """Its images: `default` reads a seed, `patched` has its own disk written to."""
    guest = build_guest(default_cache() / "guest", default_cache() / "deb", disk=True)
    via = place / "via"
    cases = [f'{one.name}) exec {" ".join(one.argv("sh", "-c"))} "$2" ;;' for one in site.nodes]
    via.write_text("\n".join(["#!/bin/sh", "case $1 in", *cases, "esac", ""]))
    via.chmod(0o755)
    words = {"nodes": [one.name for one in site.nodes], "cores": 2,
             "via": [str(via), "{node}", "{command}"]}  # fmt: skip
    lrm = "\n".join(f"{key} = {json.dumps(value)}" for key, value in words.items())
    one = Lab(place, guest, prefix=site.argv(), way=PRIVATE, public=PUBLIC, lrm=lrm)
    try:
        one.add_patched(guest)
        yield one
    finally:
        one.close()
        for node in site.nodes:
            for top in places_of(node):
                shutil.rmtree(top, ignore_errors=True)


def places_of(node: Node) -> list[Path]:
    """Where a pilot has its files on a node."""
    return [Path(top) / f"wspilot-{os.getuid()}" / node.name for top in ("/tmp", "/var/tmp")]


def files_of(node: Node) -> list[str]:
    """Those that are there, but for the images in its cache."""
    return [
        str(path)
        for top in places_of(node)
        for path in sorted(files_below(top))
        if path.parent.name != "images" and path.name != "boot_id"
    ]
