"""A stock Debian with cloud-init and sshd, made from packages as a site would: a minute, then kept.

Nothing in it knows wspilot: what it learns, it learns from the seed disk.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from tests.real.debian_root import make_debian_root

PACKAGES = ["systemd-sysv", "udev", "kmod", "iproute2", "ifupdown", "iputils-ping", "cloud-init",
            "openssh-server", "linux-image-cloud-amd64"]  # fmt: skip
DISK = "2G"
# What every cloud image's maker does: no host keys of its own, no password, the seed alone.
FINISH = """
rm -f /etc/ssh/ssh_host_*
printf '/dev/vda / ext4 defaults 0 1\\n' >/etc/fstab
printf 'datasource_list: [NoCloud, None]\\nlocale: false\\n' >/etc/cloud/cloud.cfg.d/90-seed.cfg
cd /etc/network
printf 'auto lo\\niface lo inet loopback\\nsource /etc/network/interfaces.d/*\\n' >interfaces
systemctl mask apt-daily.timer apt-daily-upgrade.timer man-db.timer e2scrub_all.timer
"""
APPEND = "root=/dev/vda rw console=ttyS0 quiet mitigations=off no_timer_check audit=0"


def build(cache: Path) -> Path:
    """The folder with `kernel`, `initrd` and `disk.qcow2`, made where it is not in the cache.

    Needs root, mmdebstrap, mke2fs and qemu-img.
    """
    recipe = hashlib.sha256("\0".join([*PACKAGES, DISK, FINISH]).encode()).hexdigest()[:12]
    place = cache / f"cloud-{recipe}"
    if not (place / "disk.qcow2").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        _make(place)
    return place


def _make(place: Path) -> None:
    root = make_debian_root(PACKAGES, timeout=500)
    try:
        done = root.run(FINISH.replace("\n", "; ").strip("; "), timeout=60)
        assert done.returncode == 0, done.stdout
        for name, pattern in (("kernel", "vmlinuz-*"), ("initrd", "initrd.img-*")):
            (found,) = (root.path / "boot").glob(pattern)
            shutil.copy(found, place / name)
        raw, part = str(place / "disk.raw"), place / "disk.part"
        argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-d", str(root.path), raw, DISK]
        subprocess.run(argv, check=True, timeout=120)
        argv = ["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", raw, str(part)]
        subprocess.run(argv, check=True, timeout=120)
        Path(raw).unlink()
        part.replace(place / "disk.qcow2")
    finally:
        root.remove()
