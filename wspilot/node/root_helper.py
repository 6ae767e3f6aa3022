#!/usr/bin/python3 -I
"""wspilot-root: the steps on a node that need root, and nothing else (DESIGN.md section 7).

Installed by `make install-node` as /usr/local/libexec/wspilot-root, root's own, and allowed by one
sudo rule. It stands alone: nothing of wspilot is imported, for a user could write to that.

Called as `wspilot-root VERB`, with one JSON object on stdin; answers with one JSON object, exit 0,
or with `{"error", "hint"}`, exit 1. What may be done is limited by /etc/wspilot/node.conf, never by
what the caller says. One call at a time. What is on the node is made from root's own records in
/var/lib/wspilot, each written before its step; a record of another boot, or of a pilot whose
journal is gone, is a stray and is undone by whoever calls next.
"""

from __future__ import annotations

import configparser
import contextlib
import fcntl
import ipaddress
import json
import os
import pwd
import re
import signal
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from re import Pattern
from typing import Any, Optional

VERSION = 1
CONF = Path("/etc/wspilot/node.conf")
RECORDS = Path("/var/lib/wspilot")
RUN = Path("/run/wspilot-root")
INPUT_LIMIT, OUTPUT_LIMIT = 64 * 1024, 1024 * 1024
LOCK_S, STEP_S = 20.0, 10.0
ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


Words = Mapping[str, Any]  # what the caller said, or a record says; nothing of it is trusted
Record = dict[str, Any]
Records = dict[str, Record]  # by name
Ranges = list[ipaddress.IPv4Network]


class Refused(Exception):
    """What is wrong, and what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


# -- who asks, and what may be done here


class Caller:
    """The user for whom sudo runs this; root itself when there was no sudo."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise Refused("this is not run as root", "call it by sudo -n")
        self.uid = int(os.environ.get("SUDO_UID") or 0)
        self.gid = int(os.environ.get("SUDO_GID") or 0)
        try:
            self.name = pwd.getpwuid(self.uid).pw_name
        except KeyError:
            self.name = str(self.uid)

    def owns(self, uid: int) -> bool:
        """May it undo what was done for `uid`? Root may undo everything."""
        return self.uid in (0, uid)


class Limits:
    """/etc/wspilot/node.conf: what whoever may have done on this node."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._conf = configparser.ConfigParser(
            interpolation=None, strict=True, delimiters=("=",), inline_comment_prefixes=(";", "#")
        )
        try:
            with open(CONF, encoding="utf-8") as file:
                info = os.fstat(file.fileno())
                if info.st_uid != 0 or info.st_mode & 0o022:
                    raise Refused(
                        f"{CONF} can be written by others than root",
                        f"chown root {CONF}; chmod 644 {CONF}",
                    )
                self._conf.read_file(file)
        except FileNotFoundError:
            raise Refused(
                f"{CONF} is not there: nothing is allowed on this node",
                "docs/operating.md of wspilot says what stands in it",
            ) from None
        except (OSError, UnicodeDecodeError, configparser.Error) as error:
            raise Refused(f"{CONF} cannot be read: {one_line(error)}") from None

    def number(self, section: str, key: str) -> int:
        """A whole number that must be there."""
        text = self._conf.get(section, key, fallback="")
        if not text.isdecimal():
            raise Refused(f"{CONF}: [{section}] {key} is {text!r}, not a whole number")
        return int(text)

    def flag(self, section: str, key: str, default: bool) -> bool:
        """yes or no."""
        try:
            return self._conf.getboolean(section, key, fallback=default)
        except ValueError:
            raise Refused(f"{CONF}: [{section}] {key} is neither yes nor no") from None

    def text(self, section: str, key: str, default: str = "") -> str:
        """A word of the administrator's."""
        return self._conf.get(section, key, fallback=default)

    def ranges(self, bridge: str) -> Ranges:
        """The address ranges that this caller's VMs may have on a bridge."""
        section = f"bridge {bridge}"
        if not self._conf.has_section(section):
            known = [one[7:] for one in self._conf.sections() if one.startswith("bridge ")]
            raise Refused(
                f"bridge {bridge} is not one of this node's for VMs ({', '.join(known) or 'none'})",
                f"name it in {CONF}: [{section}]",
            )
        words = ""
        for name in {str(self._caller.uid), self._caller.name}:
            words += " " + self._conf.get(section, name, fallback="")
        return networks(words, f"{CONF}: [{section}] {self._caller.name}")

    def deny(self) -> Ranges:
        """What no guest may reach, whatever its network says."""
        return networks(self._conf.get("network", "deny", fallback=""), f"{CONF}: deny")


def networks(words: str, where: str) -> Ranges:
    """IPv4 ranges, from text with blanks or commas between them."""
    found = []
    for word in words.replace(",", " ").split():
        try:
            found.append(ipaddress.IPv4Network(word))
        except ValueError as error:
            raise Refused(f"{where}: {one_line(error)}") from None
    return found


# -- words and commands

WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def one_line(what: object, limit: int = 300) -> str:
    """Foreign text as data: one line, nothing that a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in str(what))[:limit].strip()


def word(words: Words, key: str, pattern: Pattern[str] = WORD) -> str:
    """A word of the caller's that fits a pattern."""
    found = words.get(key)
    if not isinstance(found, str) or not pattern.fullmatch(found):
        raise Refused(f"`{key}` is {one_line(repr(found), 80)}")
    return found


def number(words: Words, key: str, low: int, high: int) -> int:
    """A whole number of the caller's within limits."""
    found = words.get(key)
    if isinstance(found, bool) or not isinstance(found, int) or not low <= found <= high:
        raise Refused(f"`{key}` is {one_line(repr(found), 80)}, not {low} to {high}")
    return found


def run(
    argv: Sequence[str], limit_s: float = STEP_S, text: str = "", fine: Sequence[int] = (0,)
) -> str:
    """A program's output. It is killed when its time is over; raises Refused then, and for exit
    codes that are not `fine`."""
    try:
        done = subprocess.run(
            argv,
            input=text.encode(),
            capture_output=True,
            timeout=limit_s,
            env=ENV,
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Refused(f"{argv[0]} took longer than {limit_s:g} s") from None
    except OSError as error:
        raise Refused(f"{argv[0]} cannot be started: {error.strerror}") from None
    if done.returncode not in fine:
        said = one_line(done.stderr.decode("utf-8", "replace") or "no word")
        raise Refused(f"{' '.join(argv[:3])}: exit {done.returncode}: {said}")
    return done.stdout[:OUTPUT_LIMIT].decode("utf-8", "replace")


def program(name: str) -> Optional[str]:
    """Where it is, or None."""
    for place in ENV["PATH"].split(":"):
        if os.access(f"{place}/{name}", os.X_OK):
            return f"{place}/{name}"
    return None


def boot_id() -> str:
    """This boot of the node: what another one left is void."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


# -- records: root's own undo journal, one file for each thing that is on the node


def save(name: str, record: Words) -> None:
    """On disk before its step is taken."""
    temp = RECORDS / f".{name}"
    with open(temp, "w", encoding="utf-8") as file:
        json.dump(record, file)
        file.flush()
        os.fsync(file.fileno())
    temp.rename(RECORDS / name)


def load(suffix: str) -> Records:
    """All records of a kind, by name. A torn one is a step that was never taken."""
    found = {}
    for path in sorted(RECORDS.glob(f"*{suffix}")):
        try:
            record = json.loads(path.read_text())
        except (OSError, ValueError):
            record = None
        if isinstance(record, dict):
            found[path.name] = record
        else:
            path.unlink()
    return found


def forget(name: str) -> None:
    """Its step has been undone."""
    with contextlib.suppress(FileNotFoundError):
        (RECORDS / name).unlink()


def journal_of(caller: Caller, words: Words) -> str:
    """The path of the pilot's journal, which the record lives as long as."""
    path = words.get("journal")
    home = f"/var/tmp/wspilot-{caller.uid}/"
    if not isinstance(path, str) or not path.startswith(home) or "/../" in path or "\0" in path:
        raise Refused(f"`journal` is {one_line(repr(path), 120)}, not below {home}")
    return path


def is_stray(record: Words) -> bool:
    """Of another boot, or of a pilot whose journal says that nothing is left of it."""
    return record.get("boot") != boot_id() or not os.path.lexists(str(record.get("journal")))


# -- network: taps on a bridge, what may pass them, and who answers DHCP

TAP = ".tap"
LINK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
VM = re.compile(r"[a-z0-9]{1,10}")
TUN, IFF_TAP, IFF_NO_PI = "/dev/net/tun", 0x0002, 0x1000
TUNSETIFF, TUNSETPERSIST, TUNSETOWNER = 0x400454CA, 0x400454CB, 0x400454CC
DENY_LIMIT = 64


def net_attach(caller: Caller, limits: Limits, words: Words) -> Record:
    """A VM's NIC: a tap of the caller's on a bridge, pinned to its MAC and address. -> {tap}

    With `vif` it is Xen that makes a device of that name; here it is pinned all the same.
    """
    sweep_taps()
    record = {
        "uid": caller.uid,
        "boot": boot_id(),
        "journal": journal_of(caller, words),
        "slot": word(words, "slot"),
        "vm": word(words, "vm", VM),
        **_nic(limits, words),
    }
    tap = f"ws{record['vm']}.{number(words, 'number', 0, 9)}"
    _check_free(caller, tap, record)
    save(tap + TAP, record)
    try:
        _remove_link(tap)
        if not words.get("vif"):
            _make_tap(tap, caller.uid)
        settle_network()
        if not words.get("vif"):
            _plug(tap, record["bridge"])
    except (Refused, OSError):
        _remove_link(tap)
        forget(tap + TAP)
        with contextlib.suppress(Refused, OSError):
            settle_network()
        raise
    return {"tap": tap}


def net_detach(caller: Caller, limits: Limits, words: Words) -> Record:
    """Take a VM's NICs away, or all of a slot; nothing there is fine. -> {removed: [tap]}"""
    vm = word(words, "vm", VM) if words.get("vm") else None
    slot = word(words, "slot")
    removed = []
    for name, record in load(TAP).items():
        if record["slot"] == slot and vm in (None, record["vm"]):
            if not caller.owns(record["uid"]):
                raise Refused(f"tap {name[: -len(TAP)]} is another user's")
            _remove_tap(name)
            removed.append(name[: -len(TAP)])
    if sweep_taps() or removed:
        settle_network()
    return {"removed": removed}


def net_list(caller: Caller, limits: Limits, words: Words) -> Record:
    """What the caller has on this node; root sees all. Strays are undone first. -> {taps}"""
    strays = sweep_taps()
    if strays:
        settle_network()
    mine = {n[: -len(TAP)]: r for n, r in load(TAP).items() if caller.owns(r["uid"])}
    return {"taps": mine, "strays": strays}


def _nic(limits: Limits, words: Words) -> Record:
    """The NIC as a record, every part of it checked against this node's limits."""
    bridge = word(words, "bridge", LINK)
    try:
        ip = ipaddress.IPv4Address(words.get("ip"))
        network = ipaddress.IPv4Interface(f"{ip}/{number(words, 'prefix', 8, 30)}").network
        gateway = str(ipaddress.IPv4Address(words["gateway"])) if words.get("gateway") else ""
        dns = [str(ipaddress.IPv4Address(one)) for one in _some(words, "dns")]
        deny = [str(ipaddress.IPv4Network(one)) for one in _some(words, "deny")]
    except ValueError as error:
        raise Refused(f"the NIC's addresses: {one_line(error)}") from None
    allowed = limits.ranges(bridge)
    if not any(ip in one for one in allowed):
        few = ", ".join(map(str, allowed)) or "none"
        raise Refused(
            f"address {ip} on bridge {bridge} is not among yours ({few})",
            f"the administrator gives ranges in {CONF}: [bridge {bridge}]",
        )
    mac = ":".join(["02:57"] + [f"{byte:02x}" for byte in ip.packed])
    if words.get("mac") != mac:
        raise Refused(f"`mac` is {one_line(repr(words.get('mac')), 40)}; that of {ip} is {mac}")
    return {
        "bridge": bridge,
        "mac": mac,
        "ip": str(ip),
        "network": str(network),
        "gateway": gateway,
        "dns": dns,
        "deny": sorted({*deny, *map(str, limits.deny())}),
    }


def _some(words: Words, key: str) -> list[Any]:
    found = words.get(key) or []
    if not isinstance(found, list) or len(found) > DENY_LIMIT:
        raise Refused(f"`{key}` is not a list of at most {DENY_LIMIT}")
    return found


def _check_free(caller: Caller, tap: str, record: Words) -> None:
    for name, other in load(TAP).items():
        if name == tap + TAP and not caller.owns(other["uid"]):
            raise Refused(f"tap {tap} is another user's")
        if name != tap + TAP and other["ip"] == record["ip"]:
            raise Refused(f"address {record['ip']} is held by tap {name[: -len(TAP)]} on this node")
    if not Path(f"/sys/class/net/{record['bridge']}/bridge").is_dir():
        raise Refused(f"this node has no bridge {record['bridge']}")
    if tap + TAP not in load(TAP) and os.path.lexists(f"/sys/class/net/{tap}"):
        raise Refused(f"this node has a device {tap} already, and it is not ours")


def sweep_taps() -> list[str]:
    """Undo strays; the names of those that were."""
    strays = [name for name, record in load(TAP).items() if is_stray(record)]
    for name in strays:
        _remove_tap(name)
    return [name[: -len(TAP)] for name in strays]


def settle_network() -> None:
    """Make filter and DHCP what the records say: the whole, each time."""
    taps = {name[: -len(TAP)]: record for name, record in load(TAP).items()}
    set_filter(taps)
    bridges = {path.name for path in RUN.iterdir()} if RUN.is_dir() else set()
    for bridge in bridges | {record["bridge"] for record in taps.values()}:
        serve_dhcp(bridge, {t: r for t, r in taps.items() if r["bridge"] == bridge})


def _make_tap(tap: str, uid: int) -> None:
    try:
        fd = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(f"{TUN}: {error.strerror}", "modprobe tun") from None
    try:
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", tap.encode(), IFF_TAP | IFF_NO_PI))
        fcntl.ioctl(fd, TUNSETOWNER, uid)
        fcntl.ioctl(fd, TUNSETPERSIST, 1)
    finally:
        os.close(fd)


def _plug(tap: str, bridge: str) -> None:
    """Only now, with its filter in place. The host itself says nothing to the guest by IPv6."""
    with contextlib.suppress(OSError):
        Path(f"/proc/sys/net/ipv6/conf/{tap}/disable_ipv6").write_text("1")
    run(["ip", "link", "set", "dev", tap, "master", bridge, "up"])


def _remove_tap(name: str) -> None:
    _remove_link(name[: -len(TAP)])
    forget(name)


def _remove_link(tap: str) -> None:
    if os.path.lexists(f"/sys/class/net/{tap}"):
        run(["ip", "link", "delete", "dev", tap])


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


# DHCP: one dnsmasq a bridge, which knows the guests of this node by MAC and answers nobody else.


def serve_dhcp(bridge: str, taps: Records) -> None:
    """Make dnsmasq answer for these taps on a bridge; without taps there is none."""
    home = RUN / bridge
    argv = dnsmasq_argv(bridge, home, taps)
    if not taps:
        _end_dnsmasq(home)
        _remove_all(home)
        return
    for kind in ("hosts", "options"):
        (home / kind).mkdir(parents=True, exist_ok=True)
        (home / kind).chmod(0o755)
        wanted = {tap: _dhcp_words(kind, tap, one) for tap, one in taps.items()}
        for path in list((home / kind).iterdir()):
            if path.name not in wanted:
                path.unlink()
        for tap, text in wanted.items():
            if not (home / kind / tap).is_file() or (home / kind / tap).read_text() != text:
                (home / kind / tap).write_text(text)
                (home / kind / tap).chmod(0o644)
    pid = _dnsmasq_pid(home)
    if pid and _command_line(pid)[1:] == argv[1:]:
        os.kill(pid, signal.SIGHUP)  # what has gone is noticed by this alone
        return
    _end_dnsmasq(home)
    if not program("dnsmasq"):
        raise Refused("dnsmasq is not installed", "apt-get install dnsmasq-base")
    if not run(["ip", "-4", "-o", "address", "show", "dev", bridge]).strip():
        raise Refused(
            f"bridge {bridge} has no IPv4 address, from which DHCP could answer",
            f"ip address add ADDRESS/PREFIX dev {bridge}; any address will do",
        )
    run(argv)


def dnsmasq_argv(bridge: str, home: Path, taps: Records) -> list[str]:
    """dnsmasq(8)'s command line. A network need not be that of the bridge's own address."""
    argv = [
        "dnsmasq",
        "--conf-file=/dev/null",
        "--port=0",
        f"--interface={bridge}",
        "--except-interface=lo",
        "--bind-interfaces",
        f"--dhcp-hostsdir={home}/hosts",
        f"--dhcp-optsdir={home}/options",
        "--dhcp-ignore=tag:!known",
        "--dhcp-authoritative",
        "--leasefile-ro",
        "--log-facility=/dev/null",
        f"--pid-file={home}/pid",
    ]
    for text in sorted({one["network"] for one in taps.values()}):
        net = ipaddress.IPv4Network(text)
        argv += [
            f"--shared-network={bridge},{net.network_address + 1}",
            f"--dhcp-range={net.network_address},static,{net.netmask},infinite",
        ]
    return argv


def _dhcp_words(kind: str, tap: str, one: Words) -> str:
    tag = tap.replace(".", "-")
    if kind == "hosts":
        return f"{one['mac']},set:{tag},{one['ip']},infinite\n"
    lines = [f"tag:{tag},option:router{',' if one['gateway'] else ''}{one['gateway']}"]
    if one["dns"]:
        lines.append(f"tag:{tag},option:dns-server,{','.join(one['dns'])}")
    return "".join(f"{line}\n" for line in lines)


def _dnsmasq_pid(home: Path) -> int:
    """Its pid, when that process is ours indeed."""
    try:
        pid = int((home / "pid").read_text())
    except (OSError, ValueError):
        return 0
    return pid if f"--pid-file={home}/pid" in _command_line(pid) else 0


def _command_line(pid: int) -> list[str]:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return raw.decode("utf-8", "replace").split("\0")[:-1]


def _end_dnsmasq(home: Path) -> None:
    pid = _dnsmasq_pid(home)
    end = time.monotonic() + STEP_S
    while pid and _dnsmasq_pid(home) == pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if time.monotonic() > end:
            raise Refused(f"dnsmasq (pid {pid}) cannot be ended")
        time.sleep(0.005)


def _remove_all(home: Path) -> None:
    for path in sorted(home.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with contextlib.suppress(FileNotFoundError):
        home.rmdir()


# -- the call


def about(caller: Caller, limits: Limits, words: Words) -> Record:
    """Which version this is, what it can do, and what the caller may have here."""
    bridges = [one[7:] for one in limits._conf.sections() if one.startswith("bridge ")]
    ranges = {name: [str(one) for one in limits.ranges(name)] for name in bridges}
    return {"version": VERSION, "verbs": sorted(VERBS), "user": caller.name, "bridges": ranges}


VERBS: dict[str, Callable[[Caller, Limits, Words], Record]] = {
    "about": about,
    "net-attach": net_attach,
    "net-detach": net_detach,
    "net-list": net_list,
}
PATIENCE: dict[str, float] = {}  # verbs (of `root_main`) with a lock and a patience of their own


def answer(argv: Sequence[str], text: str) -> Record:
    """Carry out one call. Raises Refused, OSError."""
    caller = Caller()
    verb = VERBS.get(argv[0]) if len(argv) == 1 else None
    if verb is None:
        raise Refused(f"usage: wspilot-root VERB, one of {', '.join(sorted(VERBS))}")
    try:
        words = json.loads(text or "{}")
    except (ValueError, RecursionError):
        words = None
    if not isinstance(words, dict):
        raise Refused("stdin is not one JSON object")
    limits = Limits(caller)
    with locked("xen.lock", PATIENCE[argv[0]]) if argv[0] in PATIENCE else locked():
        return verb(caller, limits, words)


@contextlib.contextmanager
def locked(name: str = "lock", limit_s: float = LOCK_S) -> Iterator[None]:
    """One call at a time on this node."""
    RECORDS.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = RECORDS.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != 0 or info.st_mode & 0o022:
        raise Refused(f"{RECORDS} is not root's own directory")
    with open(RECORDS / name, "w") as file:
        end = time.monotonic() + limit_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise Refused(f"another call has been at work for {limit_s:g} s") from None
                time.sleep(0.01)
        yield


def main() -> int:
    """A batch system's signals go to every process of a job: a step is not left in its middle."""
    for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    os.umask(0o022)
    try:
        text = sys.stdin.buffer.read(INPUT_LIMIT + 1)
        if len(text) > INPUT_LIMIT:
            raise Refused(f"stdin has more than {INPUT_LIMIT} bytes")
        found = answer(sys.argv[1:], text.decode("utf-8", "replace"))
    except Refused as error:
        print(json.dumps({"error": str(error), "hint": error.hint}))
        return 1
    except OSError as error:
        print(json.dumps({"error": one_line(error), "hint": ""}))
        return 1
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
