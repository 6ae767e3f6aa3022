#!/bin/bash
# A real Xen host as files for qemu-system-x86_64: hypervisor, kernel, initrd and the disk of a
# Debian domain 0, from Debian packages alone. Needs root and apt. About a minute; nothing when the
# cache has what these files ask for.
#
#   build.sh CACHE     CACHE/{xen.elf,dom0-vmlinux,dom0-initrd,dom0.ext4,guest.initrd,versions.txt,stamp}
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1"; cache=$(cd "$1" && pwd)
suite=bookworm
packages=xen-utils-4.17,xen-utils-common,xenstore-utils,python3,iproute2,bridge-utils,nftables
packages+=,dnsmasq-base,acl,sudo,iputils-ping,busybox-static,kmod,procps,udev,e2fsprogs,adduser

exec 9>"$cache/lock"; flock -w 900 9
key=$(cat "$here"/build.sh "$here"/dom0/* "$here"/guest/* | sha256sum | cut -c1-24)
if [ "$(cat "$cache/stamp" 2>/dev/null)" = "$key" ]; then exit 0; fi
[ "$(id -u)" = 0 ] || { echo "building a Xen host needs root" >&2; exit 1; }
for tool in mmdebstrap mke2fs cpio depmod python3; do
  command -v $tool >/dev/null || { echo "building a Xen host needs $tool" >&2; exit 1; }
done
began=$SECONDS
say() { echo "xen host: $((SECONDS - began)) s: $*" >&2; }
rm -f "$cache/stamp"; work=$cache/work; rm -rf "$work"; mkdir -p "$work/unpacked"
trap 'rm -rf "$work"' EXIT
root=$work/root

# kernel and hypervisor: unpacked, not installed (no maintainer scripts, no initramfs-tools)
depends() { apt-cache depends "$1" | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -1; }
kernel=$(depends linux-image-amd64)
(cd "$work" && apt-get -q download "$kernel" xen-hypervisor-4.17-amd64 busybox-static) >&2
for deb in "$work"/*.deb; do dpkg-deb -x "$deb" "$work/unpacked"; done
version=$(ls "$work/unpacked/lib/modules")
busybox=$(find "$work/unpacked" -path '*/bin/busybox' -type f | head -1)
gzip -dc "$work"/unpacked/boot/xen-4.17-amd64.gz >"$work/xen.elf"
# neither Xen nor xl has to decompress the kernel under emulation: bzImage -> ELF
python3 - "$work/unpacked/boot/vmlinuz-$version" "$work/vmlinux" <<'PY'
import lzma, struct, sys
image = open(sys.argv[1], "rb").read()
assert image[0x202:0x206] == b"HdrS"
offset, length = struct.unpack_from("<II", image, 0x248)
payload = image[((image[0x1F1] or 4) + 1) * 512 + offset :][:length]
elf = lzma.LZMADecompressor().decompress(payload)
assert elf[:4] == b"\x7fELF"
open(sys.argv[2], "wb").write(elf)
PY
depmod -b "$work/unpacked" "$version"
say "mmdebstrap $suite"
mmdebstrap --quiet --variant=minbase --mode=root --skip=check/signed-by \
  --aptopt='Apt::Install-Recommends "false"' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/i18n/*' \
  --include="$packages" "$suite" "$root" >&2

say "modules, guest, init"
mods=$root/lib/modules/$version; mkdir -p "$mods"
(cd "$work/unpacked/lib/modules/$version" &&
  cp modules.builtin modules.builtin.modinfo modules.order "$mods/" &&
  for tree in kernel/lib kernel/crypto kernel/arch kernel/net/9p kernel/net/bridge kernel/net/802 \
    kernel/net/llc kernel/net/netfilter kernel/net/ipv4 kernel/net/ipv6 kernel/net/core \
    kernel/net/sched kernel/net/packet kernel/fs/9p kernel/fs/ext4 kernel/fs/jbd2 \
    kernel/fs/mbcache.ko kernel/fs/fscache kernel/fs/netfs kernel/fs/nls kernel/drivers/xen \
    kernel/drivers/virtio kernel/drivers/block kernel/drivers/net/xen-netback \
    kernel/drivers/net/virtio_net.ko kernel/drivers/net/net_failover.ko kernel/drivers/net/tun.ko \
    kernel/drivers/net/veth.ko kernel/drivers/net/tap.ko kernel/drivers/char/hw_random; do
    [ ! -e "$tree" ] || cp -r --parents "$tree" "$mods/"
  done)
depmod -b "$root" "$version"
g=$work/guest; mkdir -p "$g"/{bin,sbin,dev,etc,mnt,proc,run,sys,tmp,lib/m,root}
cp "$busybox" "$g/bin/busybox"
for m in failover net_failover xen-netfront xen-blkfront cdrom isofs; do
  cp "$(find "$work/unpacked/lib/modules" -name "$m.ko")" "$g/lib/m/"
done
for verb in poweroff reboot; do
  printf '#!/bin/busybox sh\necho "going down: %s" >/dev/console\nexec /bin/busybox %s -f\n' \
    $verb $verb >"$g/sbin/$verb"
done
install -m 755 "$here/guest/init" "$g/init"; chmod 755 "$g"/sbin/*
images=$root/srv/images; mkdir -p "$images"
(cd "$g" && find . | cpio -o -H newc --quiet) >"$images/guest.initrd"
install -m 644 "$work/vmlinux" "$images/guest.vmlinux"
for name in init setup agent; do install -m 755 "$here/dom0/$name" "$root/sbin/xenhost-$name"; done
install -m 644 "$here/dom0/inittab" "$root/etc/inittab"
chroot "$root" useradd -m -s /bin/bash -u 1500 alice
chroot "$root" useradd -m -s /bin/bash -u 1501 bob
i=$work/initrd; mkdir -p "$i"/{bin,dev,proc,sys,newroot,lib/modules}
cp "$busybox" "$i/bin/busybox"; install -m 755 "$here/dom0/initrd" "$i/init"
n=10
modprobe -d "$work/unpacked" -S "$version" --show-depends -a virtio_pci virtio_blk ext4 \
  crc32c_generic 2>/dev/null | awk '/^insmod/ && !seen[$2]++ {print $2}' >"$work/list"
while read -r m; do cp "$m" "$i/lib/modules/$n-$(basename "$m")"; n=$((n + 1)); done <"$work/list"
(cd "$i" && find . | cpio -o -H newc --quiet) >"$work/dom0-initrd"

rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale,i18n}/*
rm -f "$root/dev/console"; mkdir -p "$root"/{ctl,share}
echo 127.0.0.1 localhost xenhost >"$root/etc/hosts"
size=$(($(du -sm "$root" | cut -f1) + 400))
say "mke2fs, $size MB"
rm -f "$cache/dom0.ext4"
mke2fs -q -t ext4 -O ^has_journal -L dom0 -d "$root" "$cache/dom0.ext4" "${size}M"
cp "$images/guest.initrd" "$cache/"
mv "$work/xen.elf" "$work/dom0-initrd" "$cache/"; mv "$work/vmlinux" "$cache/dom0-vmlinux"
chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' | grep -E '^(xen|libxen|python3 |sudo )' \
  >"$cache/versions.txt"
echo "kernel $version" >>"$cache/versions.txt"
echo "$key" >"$cache/stamp"
say "done"
