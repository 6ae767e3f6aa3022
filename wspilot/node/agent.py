"""What runs inside guests: POSIX shell, as text that the seed disk carries.

`AGENT` is for guests without cloud-init (any init can start it: `sh /mnt/agent /mnt`); it needs
sh, cat, sed, ip or ifconfig, hostname. `CLOUD` is the part that cloud-init runs at the end of a
boot. Both say `WSPILOT ready`, run the user's script, and report its outcome once: ok with its last
line, or error with it.
"""

from __future__ import annotations

_COMMON = r"""
port=
for p in /sys/class/virtio-ports/*; do
  read -r name 2>/dev/null <"$p/name" && [ "$name" = org.wspilot.0 ] && port=/dev/${p##*/}
done
[ -n "$port" ] || port=/dev/hvc0
say() { echo "WSPILOT $*" >"$port" 2>/dev/null || echo "WSPILOT $*" >/dev/console; }
report() { # SCRIPT: run it, say how it ended
  out=/run/wspilot.out
  if [ ! -s "$1" ]; then say "ok the context is there"; return; fi
  "$1" >"$out" 2>&1
  code=$?
  last=$(sed -n '$p' "$out" | cut -c1-300)
  if [ $code = 0 ]; then say "ok $last"; else say "error $code: $last"; fi
}
"""

AGENT = (
    r"""#!/bin/sh
# wspilot's agent: applies the seed disk that is mounted at $1 (hostname, addresses, hosts, keys).
seed=${1:-/run/seed}
"""
    + _COMMON
    + r"""
nic() { # MAC ADDRESS/PREFIX GATEWAY MTU
  for dev in /sys/class/net/*; do
    [ "$(cat "$dev/address" 2>/dev/null)" = "$1" ] || continue
    dev=${dev##*/}
    [ "$4" = - ] || ip link set "$dev" mtu "$4"
    [ "$2" = - ] || ip addr add "$2" dev "$dev" || return 1
    ip link set "$dev" up
    [ "$3" = - ] || ip route add default via "$3" dev "$dev" 2>/dev/null
    return 0
  done
  return 1
}
failed=
ip link set lo up
: >/run/resolv.conf
while read -r what a b c d; do
  case $what in
  host) hostname "$a"; echo "$a" >/etc/hostname ;;
  nic) nic "$a" "$b" "$c" "$d" || failed="no interface $a for $b" ;;
  dns) echo "nameserver $a" >>/run/resolv.conf ;;
  esac
done <"$seed/context"
[ -s /run/resolv.conf ] && cat /run/resolv.conf >/etc/resolv.conf
cat "$seed/hosts" >/etc/hosts
mkdir -p /etc/wspilot /etc/ssh /root/.ssh
for f in roles nodefile; do cat "$seed/$f" >"/etc/wspilot/$f"; done
cat "$seed/known_hosts" >/etc/ssh/ssh_known_hosts
umask 077
cat "$seed/keys" >>/root/.ssh/authorized_keys
if [ -s "$seed/host_key" ]; then
  cat "$seed/host_key" >/etc/ssh/ssh_host_ed25519_key
  cat "$seed/host_key.pub" >/etc/ssh/ssh_host_ed25519_key.pub
fi
cat "$seed/script" >/etc/wspilot/script
chmod 700 /etc/wspilot/script
read -r up _ </proc/uptime
say "ready after $up s"
if [ -n "$failed" ]; then say "error $failed"; else report /etc/wspilot/script; fi
"""
)

CLOUD = (
    "#!/bin/sh\n# wspilot: says that the guest is up, and how the user's script ended\n"
    + _COMMON
    + "say ready\nreport /etc/wspilot/script\n"
)
