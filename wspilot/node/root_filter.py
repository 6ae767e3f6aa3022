"""What may pass a guest's tap, for the root helper: by nft(8), or ebtables-nft(8) where that lacks.

Pure but for `set_filter`: rules are made from the taps' records. Both ways filter before the
bridge learns where a sender is.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from wspilot.node.root_helper import Records, Refused, program, run

# What may pass a guest's tap: an allow-list. Its own MAC; ARP for its own address (or a probe, from
# 0.0.0.0); IPv4 from its own address to what is not denied; DHCP with this node alone. So neither
# IPv6 nor VLAN tags nor spanning tree. `ether type` looks at the frame as it was sent: the kernel
# takes a VLAN's tag off before the bridge sees it, and `ip` alone would match the rest.
NFT = """\
table bridge wspilot {{
  set taps {{ type ifname; elements = {{ {taps} }} }}
  set ports {{ type ifname . ether_addr; elements = {{ {ports} }} }}
  set ips {{ type ifname . ether_addr . ipv4_addr; elements = {{ {ips} }} }}
  set denied {{ type ifname . ipv4_addr; flags interval; {denied} }}
  chain prerouting {{
    type filter hook prerouting priority -300; policy accept;
    iifname @taps jump guest
  }}
  chain guest {{
    ether type != {{ ip, arp }} counter drop comment "other ethertype"
    iifname . ether saddr != @ports counter drop comment "mac"
    ether type arp jump guest_arp
    ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
    udp sport 67 counter drop comment "dhcp server"
    iifname . ether saddr . ip saddr != @ips counter drop comment "ip"
    iifname . ip daddr @denied counter drop comment "denied"
    accept
  }}
  chain guest_arp {{
    arp htype != 1 counter drop comment "arp"
    iifname . arp daddr ip @denied counter drop comment "denied"
    arp saddr ip 0.0.0.0 iifname . arp saddr ether @ports accept
    iifname . arp saddr ether . arp saddr ip @ips accept
    counter drop comment "arp"
  }}
  chain forward {{
    type filter hook forward priority -300; policy accept;
    iifname @taps udp dport 67 counter drop comment "dhcp to the wire"
    oifname @taps udp sport 67 counter drop comment "dhcp from the wire"
  }}
  chain input {{
    type filter hook input priority -300; policy accept;
    iifname != @taps udp dport 67 @th,288,48 {{ {macs} }} counter drop comment "dhcp from the wire"
  }}
  chain output {{
    type filter hook output priority -300; policy accept;
    oifname != @taps udp sport 67 @th,288,48 {{ {macs} }} counter drop comment "dhcp to the wire"
  }}
}}
"""
NFT_GONE = "table bridge wspilot {}\ndelete table bridge wspilot\n"


def set_filter(taps: Records) -> None:
    """The whole table at once; none without taps. ebtables-nft where nft is missing."""
    nft, ebtables = program("nft"), program("ebtables-nft")
    if nft:
        run([nft, "-f", "-"], text=NFT_GONE + (nft_rules(taps) if taps else ""))
    elif ebtables:
        set_ebtables(ebtables, taps)
    else:
        raise Refused(
            "neither nft nor ebtables-nft is installed: guests could claim any address",
            "apt-get install nftables",
        )


def nft_rules(taps: Records) -> str:
    """nft(8)'s words for these taps."""
    named = [(f'"{tap}"', one["mac"], one) for tap, one in taps.items()]
    denied = [
        f"{tap} . {net}" for tap, _, one in named for net in _collapsed(one["deny"])
    ]  # overlapping intervals would be refused
    return NFT.format(
        taps=", ".join(tap for tap, _, _ in named),
        macs=", ".join(sorted({"0x" + mac.replace(":", "") for _, mac, _ in named})),
        ports=", ".join(f"{tap} . {mac}" for tap, mac, _ in named),
        ips=", ".join(f"{tap} . {mac} . {one['ip']}" for tap, mac, one in named),
        denied=f"elements = {{ {', '.join(denied)} }}" if denied else "",
    )


def _collapsed(ranges: Sequence[str]) -> Iterator[str]:
    return map(str, ipaddress.collapse_addresses(map(ipaddress.IPv4Network, ranges)))


# The same by ebtables-nft. It can look neither into DHCP nor at sets: what the wire is told by port
# 67 goes no further at all, and each tap has a chain of its own. A guest's frames are looked at in
# the table nat, before the bridge learns where their sender is.
HOOKS = {"nat": ("PREROUTING",), "filter": ("FORWARD", "OUTPUT")}
OURS = "wspilot-"


def set_ebtables(program_path: str, taps: Records) -> None:
    """Our chains, each table at once, and one jump to them in each hook; all else stays."""
    rules = ebtables_rules(taps)
    for table, hooks in HOOKS.items():
        ebtables = [program_path, "-t", table]
        found = run([*ebtables, "-L"])
        hooked = re.findall(rf"-j ({OURS}[A-Z]+) *$", found, re.MULTILINE)
        unhooked = [hook for hook in hooks if OURS + hook not in hooked]
        if not taps:
            for hook in set(hooks) - set(unhooked):
                run([*ebtables, "-D", hook, "-j", OURS + hook])
        old = re.findall(rf"^Bridge chain: ({OURS}[^ ,]*)", found, re.MULTILINE)
        words = _restored(table, old, rules[table] if taps else {})
        run([f"{program_path}-restore", "--noflush"], text=words)
        for hook in unhooked if taps else ():
            run([*ebtables, "-I", hook, "-j", OURS + hook])


def _restored(table: str, old: Sequence[str], rules: Mapping[str, Sequence[str]]) -> str:
    """ebtables-restore's words: these chains are, those that were and are not wanted go."""
    policy = {OURS + hook: "RETURN" for hook in HOOKS[table]}
    words = [f"*{table}", *(f":{chain} {policy.get(chain, 'DROP')}" for chain in rules)]
    words += [f"-F {chain}" for chain in old]
    words += [f"-A {chain} {rule}" for chain, several in rules.items() for rule in several]
    return "\n".join([*words, *(f"-X {chain}" for chain in old if chain not in rules), ""])


def ebtables_rules(taps: Records) -> dict[str, dict[str, list[str]]]:
    """ebtables(8)'s rules for these taps, by table and chain."""
    udp = "-p IPv4 --ip-proto udp"
    guests = {
        OURS + tap: _ebtables_guest(one["mac"], one["ip"], one["deny"]) for tap, one in taps.items()
    }
    forward, output = [], []
    for tap in taps:
        forward += [
            f"-i {tap} {udp} --ip-dport 67 -j DROP",
            f"-o {tap} {udp} --ip-sport 67 -j DROP",
        ]
        output += [f"-o {tap} -j RETURN"]
    for bridge in sorted({one["bridge"] for one in taps.values()}):
        wire = sorted(path.name for path in Path(f"/sys/class/net/{bridge}/brif").glob("*"))
        output += [f"-o {one} {udp} --ip-sport 67 -j DROP" for one in wire]
    jumps = [f"-i {tap} -j {OURS}{tap}" for tap in taps]
    return {
        "nat": {**guests, f"{OURS}PREROUTING": jumps},
        "filter": {f"{OURS}FORWARD": forward, f"{OURS}OUTPUT": output},
    }


def _ebtables_guest(mac: str, ip: str, deny: Sequence[str]) -> list[str]:
    """What a guest may say; the chain's policy drops the rest."""
    udp = "-p IPv4 --ip-proto udp"
    return [
        f"-s ! {mac} -j DROP",
        f"{udp} --ip-src 0.0.0.0 --ip-dst 255.255.255.255 --ip-sport 68 --ip-dport 67 -j RETURN",
        f"{udp} --ip-sport 67 -j DROP",
        *(f"-p IPv4 --ip-dst {net} -j DROP" for net in deny),
        *(f"-p ARP --arp-ip-dst {net} -j DROP" for net in deny),
        f"-p IPv4 --ip-src {ip} -j RETURN",
        f"-p ARP --arp-mac-src ! {mac} -j DROP",
        "-p ARP --arp-ip-src 0.0.0.0 -j RETURN",
        f"-p ARP --arp-ip-src {ip} -j RETURN",
    ]
