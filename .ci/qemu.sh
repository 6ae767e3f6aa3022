#!/bin/sh
# See to it that real guests can run; else say that the demo simulates them, and why. Never fails.
# env: QEMU_PACKAGES (Debian packages), VMM (sim: do nothing)
set -u
[ "${VMM:-}" = sim ] && { echo 'guests: simulated, as asked for (VMM=sim)'; exit 0; }
packages=${QEMU_PACKAGES:?}

lacking() {
    for tool in qemu-system-x86_64 qemu-img cpio gzip mke2fs dpkg-deb; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null 2>&1 || printf ' %s' "$tool"
    done
}
simulated() { # why, how to change it
    echo "guests: simulated (sim), because $1"
    echo "  for real ones: $2"
    exit 0
}

# The guest is built from Debian packages: apt's lists must be there, and a bare image has none.
no_lists() { command -v apt-cache >/dev/null 2>&1 && [ -z "$(apt-cache madison busybox-static 2>/dev/null)" ]; }

[ -z "$(lacking)" ] && ! no_lists && exit 0
[ -z "${VMM:-}" ] || [ "$VMM" = qemu ] || exit 0
command -v apt-get >/dev/null 2>&1 ||
    simulated "these are missing:$(lacking)" 'install QEMU with your package manager, then run make demo again'
if [ "$(id -u)" = 0 ]; then as=; elif sudo -n true 2>/dev/null; then as='sudo -n '; else
    [ -n "$(lacking)" ] || exit 0
    simulated "these are missing:$(lacking), and you may not install them without a password" \
        "sudo apt-get update && sudo apt-get install --no-install-recommends $packages"
fi

mkdir -p .cache
[ -n "$(lacking)" ] && echo "installing for real guests: $packages"
get() { # what apt-get is asked
    # shellcheck disable=SC2086
    timeout 600 ${as}env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends "$@" >>.cache/apt.log 2>&1 </dev/null
}
: >.cache/apt.log
# shellcheck disable=SC2086
get update && { [ -z "$(lacking)" ] || get install $packages; }
[ -z "$(lacking)" ] || { tail -n 5 .cache/apt.log >&2
    simulated "apt-get could not install:$(lacking) (.cache/apt.log)" "sudo apt-get install --no-install-recommends $packages"; }
