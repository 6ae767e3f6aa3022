"""Builds the small real guest of demo and tests: Debian's cloud kernel and one static busybox.

Why: a real guest says `WSPILOT ready` itself, so that `running` can be shown to mean what it says
(DESIGN.md section 5). Needs no root, only apt's package lists; takes seconds, and nothing the
second time. Runs on the headnode or a person's machine, never on a node.

Invariant: `image.json` is written last, so a directory that has one is complete.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wspilot.errors import WspilotError
from wspilot.text import clean

HOST_PACKAGES = ("apt", "dpkg", "e2fsprogs", "qemu-utils")  # the last two only for `disk`
GUEST_PACKAGES = ("linux-image-cloud-amd64", "busybox-static")
DOWNLOAD_S = 180
TOOL_S = 60
# In load order (virtio_ring before virtio): there is no depmod in there. The guest says `ready`
# when the first are loaded; the others come afterwards, when nobody waits for them.
FIRST = (
    *("virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci"),
    *("virtio_console", "virtio_blk", "failover", "net_failover", "virtio_net", "button", "evdev"),
)
SEED = ("cdrom", "isofs")  # only where there is a seed disk to read
LATER = ("virtio_balloon", "virtio-rng", "qemu_fw_cfg")
PLACES = ("bin", "dev", "etc", "etc/acpi", "etc/acpi/PWRF", "lib", "lib/m", "mnt", "proc", "run",
          "sbin", "sys", "tmp")  # fmt: skip
# Self-tests of ciphers alone take 0.8 s of 4 under TCG; nothing here needs them, or an LSM.
APPEND = (
    "console=ttyS0 quiet panic=-1 mitigations=off"
    " nokaslr cryptomgr.notests no_timer_check audit=0 lsm="
)
_SIGNATURE = b"~Module signature appended~\n"

INIT = """\
#!/bin/busybox sh
# The initramfs: drivers, then the guest itself, from RAM or from root=/dev/vdX.
export PATH=/bin
busybox mount -t devtmpfs d /dev; busybox mount -t proc p /proc; busybox mount -t sysfs s /sys
for m in $(busybox cat /lib/m/first); do busybox insmod /lib/m/$m.ko || echo "no module $m"; done
for w in $(busybox cat /proc/cmdline); do case $w in root=/dev/*) root=${w#root=};; esac; done
[ -n "$root" ] || exec /sbin/init
n=0; until [ -b "$root" ] || [ $n -ge 50 ]; do n=$((n+1)); busybox usleep 100000; done
busybox mount -t ext4 "$root" /mnt && busybox mount -o move /dev /mnt/dev &&
  busybox umount /proc /sys && exec busybox switch_root /mnt /sbin/init
echo "cannot mount $root"; exec /sbin/init
"""
SBIN_INIT = """\
#!/bin/busybox sh
# The guest: says that it is up on its own channel, obeys the power button, offers a shell.
export PATH=/bin HOME=/
[ -d /proc/1 ] || { busybox mount -t proc p /proc; busybox mount -t sysfs s /sys; }
busybox mount -t tmpfs t /run
busybox acpid -l /run/acpid.log
for i in /sys/class/net/eth*; do [ -e "$i" ] && busybox ifconfig "${i##*/}" up; done
read -r up _ </proc/uptime
for p in /sys/class/virtio-ports/*; do
  read -r name 2>/dev/null <"$p/name" && [ "$name" = org.wspilot.0 ] && port=/dev/${p##*/}
done
for d in /sys/block/vd*; do
  serial=; read -r serial 2>/dev/null <"$d/serial"  # it has no newline: read says no
  [ "$serial" = seed ] || continue
  for m in $(busybox cat /lib/m/seed); do busybox insmod /lib/m/$m.ko; done
  busybox mkdir -p /run/seed
  busybox mount -t iso9660 -o ro "/dev/${d##*/}" /run/seed && seed=/run/seed
done
[ -L /bin/sed ] || [ ! -e "${seed:-/etc/wspilot}" ] || busybox --install -s /bin
if [ -n "$seed" ]; then
  busybox sh "$seed/agent" "$seed"
elif [ -x /etc/wspilot/report ]; then  # its disk was patched: it knows its name, and asks for more
  busybox hostname -F /etc/hostname
  busybox ifconfig lo 127.0.0.1
  : >/etc/resolv.conf
  for i in /sys/class/net/eth*; do busybox udhcpc -nq -O mtu -i "${i##*/}" -s /etc/dhcp; done
  busybox sh /etc/wspilot/report
else
  [ -n "$port" ] && echo "WSPILOT ready after $up s" >"$port"
fi
echo "wspilot-guest login: root (a shell, no password)"
for m in $(busybox cat /lib/m/later); do busybox insmod /lib/m/$m.ko; done 2>/dev/null
[ -L /bin/sed ] || busybox --install -s /bin
while :; do busybox setsid busybox sh -c "exec busybox sh -i </dev/ttyS0 >/dev/ttyS0 2>&1"
  busybox sleep 1; done
"""
DHCP = """\
#!/bin/busybox sh
# What udhcpc has been told.
[ "$1" = bound ] || exit 0
busybox ifconfig "$interface" "$ip" netmask "$subnet" mtu "${mtu:-1500}"
[ -z "$router" ] || busybox route add default gw "${router%% *}"
for d in $dns; do echo "nameserver $d"; done >>/etc/resolv.conf
"""
POWER = """\
#!/bin/busybox sh
echo "going down: power button" >/dev/console
busybox sync
exec busybox poweroff -f
"""


@dataclass(frozen=True)
class GuestImage:
    """A guest that was built. `image` is what a `create` command's `image` holds."""

    out: Path
    digest: str  # sha256 over the files that a VM boots from
    image: Mapping[str, Any]  # boots from RAM
    disk: Mapping[str, Any] | None  # the same kernel with root on a qcow2; None: not built


def build_guest(out: Path, cache: Path, disk: bool = False) -> GuestImage:
    """The guest in `out`, built if need be; .deb files are kept in `cache`.

    5 to 10 s, or a few ms when `out` has it already. Safe when several call it at once. Raises
    WspilotError when a package cannot be had or a tool is missing.
    """
    out.mkdir(parents=True, exist_ok=True)
    cache.mkdir(parents=True, exist_ok=True)
    with open(out / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # waits for a sister's build: bounded by its own limits
        found = _load(out)
        if found is None or (disk and found.disk is None):
            _build(out, cache, disk)
            found = _load(out)
    if found is None:
        raise WspilotError(f"the guest in {out} is not complete after its build")
    return found


def default_cache() -> Path:
    """Where demo and tests keep the guest: `$XDG_CACHE_HOME/wspilot`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "wspilot"


def recipe() -> str:
    """Digest of all that decides what a build yields but the packages' versions."""
    parts = [INIT, SBIN_INIT, DHCP, POWER, APPEND, *FIRST, "", *SEED, "", *LATER, *GUEST_PACKAGES]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _load(out: Path) -> GuestImage | None:
    """What `out` holds, if it was made by this recipe and is still as it was written."""
    try:
        doc = json.loads((out / "image.json").read_text())
        if doc["recipe"] != recipe():
            return None
        for name, size in doc["sizes"].items():
            if (out / name).stat().st_size != size:
                return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    base = {"kind": "kernel", "kernel": str(out / "vmlinuz"), "initrd": str(out / "initrd")}
    base.update(append=doc["append"], ready=doc["ready"], pattern=doc["pattern"])
    root = None
    if "root.qcow2" in doc["sizes"]:
        root = {**base, "disk": str(out / "root.qcow2"), "format": "qcow2"}
        root["append"] = f"{doc['append']} root=/dev/vda"
    return GuestImage(out, doc["digest"], base, root)


def _build(out: Path, cache: Path, disk: bool) -> None:
    kernel = _deb(cache, _depends(GUEST_PACKAGES[0]))
    busybox = _deb(cache, GUEST_PACKAGES[1])
    wanted = {f"{name}.ko" for name in (*FIRST, *SEED, *LATER)}
    with tempfile.TemporaryDirectory(prefix=".build-", dir=out) as made:
        work = Path(made)
        modules: dict[str, bytes] = {}
        for name, data in _files(kernel):
            base = name.rsplit("/", 1)[-1]
            if name.startswith("./boot/vmlinuz"):
                (work / "vmlinuz").write_bytes(data())
            elif base in wanted:
                modules[base] = _unsigned(data())
        shell = next((data() for name, data in _files(busybox) if name == "./bin/busybox"), b"")
        if not shell or not (work / "vmlinuz").exists() or wanted - set(modules):
            lost = ", ".join(sorted(wanted - set(modules))) or "the kernel or busybox"
            raise WspilotError(f"{kernel.name} and {busybox.name} do not hold {lost}")
        tree = _tree(shell, modules)
        (work / "initrd").write_bytes(gzip.compress(cpio(tree), 6, mtime=0))
        if disk:
            _disk(work, tree)
        _publish(work, out, (kernel.name, busybox.name))


def _publish(work: Path, out: Path, packages: tuple[str, ...]) -> None:
    """Move the new files in; `image.json` goes first and comes last."""
    with contextlib.suppress(FileNotFoundError):
        (out / "image.json").unlink()
    digest, sizes = hashlib.sha256(), {}
    for name in ("vmlinuz", "initrd", "root.qcow2"):
        if (work / name).exists():
            digest.update((work / name).read_bytes())
            sizes[name] = (work / name).stat().st_size
            (work / name).replace(out / name)
    doc = {"schema": 1, "kind": "kernel", "digest": digest.hexdigest(), "recipe": recipe()}
    doc.update(append=APPEND, ready="agent", pattern="login:", sizes=sizes, packages=packages)
    (work / "image.json").write_text(json.dumps(doc, indent=1) + "\n")
    (work / "image.json").replace(out / "image.json")


def _tree(shell: bytes, modules: Mapping[str, bytes]) -> dict[str, tuple[int, bytes]]:
    """The guest's files: path to (mode, content); directories end with `/`."""
    tree: dict[str, tuple[int, bytes]] = {f"{place}/": (0o755, b"") for place in PLACES}
    tree["bin/busybox"] = (0o755, shell)
    tree["init"] = (0o755, INIT.encode())
    tree["sbin/init"] = (0o755, SBIN_INIT.encode())
    tree["etc/dhcp"] = (0o755, DHCP.encode())
    tree["etc/acpi/PWRF/00000080"] = (0o755, POWER.encode())
    tree["etc/passwd"] = (0o644, b"root:x:0:0:root:/:/bin/sh\n")
    tree["lib/m/first"] = (0o644, " ".join(FIRST).encode())
    tree["lib/m/seed"] = (0o644, " ".join(SEED).encode())
    tree["lib/m/later"] = (0o644, " ".join(LATER).encode())
    tree.update({f"lib/m/{name}": (0o644, data) for name, data in sorted(modules.items())})
    return tree


def cpio(tree: Mapping[str, tuple[int, bytes]]) -> bytes:
    """A `newc` archive owned by root with no times: the same tree gives the same bytes."""
    out = io.BytesIO()
    entries = [*sorted(tree.items()), ("TRAILER!!!", (0, b""))]
    for number, (path, (mode, data)) in enumerate(entries, 1):
        kind = stat.S_IFDIR if path.endswith("/") else stat.S_IFREG
        name = path.rstrip("/").encode() + b"\0"
        mode = kind | mode if mode else 0
        head = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
        out.write(b"070701" + "".join(f"{one:08X}" for one in head).encode() + name)
        out.write(b"\0" * (-out.tell() % 4))
        out.write(data)
        out.write(b"\0" * (-out.tell() % 4))
    return out.getvalue()


def _unsigned(module: bytes) -> bytes:
    """The module without its signature: checking one is RSA, dear under TCG, and not enforced."""
    if not module.endswith(_SIGNATURE):
        return module
    end = len(module) - len(_SIGNATURE)
    return module[: end - 12 - int.from_bytes(module[end - 4 : end], "big")]


def _disk(work: Path, tree: Mapping[str, tuple[int, bytes]]) -> None:
    """`root.qcow2`: the same files on ext4, without a partition table or boot loader."""
    root = work / "root"
    for path, (mode, data) in sorted(tree.items()):
        if path.endswith("/"):
            (root / path).mkdir(parents=True, exist_ok=True)
        else:
            (root / path).write_bytes(data)
            (root / path).chmod(mode)
    raw = str(work / "root.ext4")
    owner = "root_owner=0:0,lazy_itable_init=1"
    _run("mke2fs", "-q", "-t", "ext4", "-F", "-m", "0", "-E", owner, "-d", str(root), raw, "16M")
    _run("qemu-img", "convert", "-q", "-O", "qcow2", raw, str(work / "root.qcow2"))


def _depends(package: str) -> str:
    """The package that the meta package `package` stands for now."""
    for line in _run("apt-cache", "depends", package).splitlines():
        if line.strip().startswith("Depends: "):
            return line.strip()[len("Depends: ") :]
    raise WspilotError(f"apt knows no {package}", "run apt-get update, as root")


def _deb(cache: Path, package: str) -> Path:
    """The package's file in the cache, downloaded when it is not there."""
    if not list(cache.glob(f"{package}_*.deb")):
        with tempfile.TemporaryDirectory(prefix=".get-", dir=cache) as made:
            _run("apt-get", "-q", "download", package, cwd=made, limit_s=DOWNLOAD_S)
            for path in Path(made).glob("*.deb"):
                path.replace(cache / path.name)
    found = sorted(cache.glob(f"{package}_*.deb"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise WspilotError(f"apt-get download {package} brought nothing", "run apt-get update")
    return found[-1]


def _files(deb: Path) -> Iterator[tuple[str, Any]]:
    """Each regular file in a .deb: its name, and a function that reads it now."""
    argv = [_tool("dpkg-deb"), "--fsys-tarfile", str(deb)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
                for member in tar:
                    if member.isfile():
                        source = tar.extractfile(member)
                        assert source is not None
                        yield member.name, source.read
        except tarfile.TarError as error:
            deb.unlink(missing_ok=True)  # a broken download must not stay in the cache
            raise WspilotError(f"{deb} cannot be read: {error}", "try once more") from error
        finally:
            process.kill()


def _tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if found is None:
        raise WspilotError(
            f"building the guest needs {name}, which is not here",
            "on Debian: apt-get install " + " ".join(HOST_PACKAGES),
        )
    return found


def _run(*argv: str, cwd: str | None = None, limit_s: float = TOOL_S) -> str:
    """One tool's stdout, within its time limit."""
    env = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [_tool(argv[0]), *argv[1:]],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired as error:
        raise WspilotError(f"{' '.join(argv[:3])} took longer than {limit_s:.0f} s") from error
    if done.returncode:
        what = clean(done.stderr, 400) or f"exit code {done.returncode}"
        raise WspilotError(f"{' '.join(argv[:3])}: {what}", "is the network there? apt-get update?")
    return done.stdout.decode("utf-8", "replace")


def main(argv: list[str] | None = None) -> int:
    """`python -m wspilot.guest OUTDIR`: build, and print what was built as JSON."""
    parser = argparse.ArgumentParser(prog="python -m wspilot.guest", description=main.__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--cache", type=Path, help="where .deb files are kept; default OUTDIR/cache"
    )
    parser.add_argument("--disk", action="store_true", help="a root.qcow2 too")
    args = parser.parse_args(argv)
    out = args.out.absolute()
    try:
        guest = build_guest(out, args.cache or out / "cache", args.disk)
    except WspilotError as error:
        print(f"{error.message}\n{error.hint}".strip(), file=sys.stderr)
        return int(error.code)
    doc = {"out": str(guest.out), "digest": guest.digest, "image": guest.image, "disk": guest.disk}
    print(json.dumps(doc, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
