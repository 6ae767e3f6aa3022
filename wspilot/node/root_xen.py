"""Xen guests, for the root helper: made from checked words, on memory that was taken, and ended.

The caller's files are opened as the caller and handed to xl as open files, so that no path can be
changed in between; disks go through loop devices that free themselves. Each NIC is one that the
network verbs have pinned to its MAC and address. A guest's record is written before its create:
its uuid finds it again, also half-made.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wspilot.node import root_balloon as balloon
from wspilot.node import root_xl
from wspilot.node.root_balloon import GUEST, TAKE, domains, must, xl
from wspilot.node.root_helper import (
    RECORDS,
    Caller,
    Limits,
    Record,
    Refused,
    Words,
    boot_id,
    forget,
    journal_of,
    load,
    number,
    one_line,
    run,
    save,
    word,
)
from wspilot.node.root_taps import TAP
from wspilot.node.root_xl import Domain

LOG, SCRIPTS = Path("/var/log/xen"), Path("/etc/xen/scripts")
CREATE_S, SAVE_S, GRACE_MOST_S = 120.0, 600.0, 600
MOST_MIB, MOST_CPUS, MOST_DISKS = 1 << 22, 512, 16
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
VM = re.compile(r"[a-z0-9]{1,10}")
VDEV = re.compile(r"xvd[a-z]")
VIF = re.compile(r"ws[a-z0-9]{1,10}\.[0-9]")
LOOP_GET_FREE, LOOP_CONFIGURE, LO_READ_ONLY, LO_AUTOCLEAR = 0x4C82, 0x4C0A, 1, 4
POLL_S = 0.3
# Instead of Xen's own script, whose sharing checks a loop device of our own does not need: dozens
# of processes, a /dev/stdin, and on a busy node more than the 40 s that libxl gives it.
BLOCK = """\
#!/bin/sh
[ "$1" = add ] || exit 0
d=$(xenstore-read "$XENBUS_PATH/params") && n=$(stat -L -c %t:%T "$d") || exit 1
exec xenstore-write "$XENBUS_PATH/physical-device" "$n" \\
  "$XENBUS_PATH/physical-device-path" "$d" "$XENBUS_PATH/hotplug-status" connected
"""


def overhead_mib(mib: int) -> int:
    """What Xen needs for a guest beside its memory: page tables, grants, its shadow."""
    return 8 + mib // 128


def patience_s(limits: Limits) -> float:
    """How long a call waits for another's: no step of that one takes longer."""
    return max(balloon.seconds(limits, "create_s", CREATE_S), SAVE_S) + balloon.DESTROY_S


# -- verbs


def create(caller: Caller, limits: Limits, words: Words) -> Record:
    """Start a guest, anew or (`restore`) from its saved memory. -> {domid, tty, name}

    Raises Refused; then nothing of it is left but, for one that was known before, its record.
    """
    balloon.check_user(caller, limits)
    guest = _guest(caller, words)
    name, limit_s = guest["uuid"] + GUEST, balloon.seconds(limits, "create_s", CREATE_S)
    known = load(GUEST).get(name)
    if known is not None and not caller.owns(known["uid"]):
        raise Refused("that guest is another user's")
    _check_room(guest, name)
    saved = RECORDS / balloon.saved_name(name)
    if words.get("restore") and not saved.exists():
        raise Refused(f"nothing was saved of {guest['name']}")
    save(name, guest)
    try:
        domid = _start(caller, guest, saved if words.get("restore") else None, limit_s)
        tty = _tty(caller, domid)
    except (Refused, OSError):
        with contextlib.suppress(Refused):
            balloon.destroy([guest["uuid"]])
            if known is None:
                forget(name)
        raise
    save(name, {**guest, "domid": domid})
    if words.get("restore"):
        saved.unlink()
    return {"domid": domid, "tty": tty, "name": guest["name"]}


def end(caller: Caller, limits: Limits, words: Words) -> Record:
    """End guests by uuid, asked first where there is grace; nothing there is fine. -> {ended}

    words: uuids, grace_s, keep (a stopped or suspended one is known on).
    """
    records = {}
    for uuid in _uuids(words):
        record = load(GUEST).get(uuid + GUEST)
        if record is not None and not caller.owns(record["uid"]):
            raise Refused(f"guest {uuid} is another user's")
        if record is not None or _is_lost(caller, uuid):
            records[uuid + GUEST] = record or {"uuid": uuid, "boot": boot_id()}
    grace_s = float(number(words, "grace_s", 0, GRACE_MOST_S)) if words.get("grace_s") else 0.0
    if grace_s and records:
        _ask_to_go([one["uuid"] for one in records.values()], grace_s)
    if words.get("keep"):
        return {"ended": balloon.destroy([one["uuid"] for one in records.values()])}
    return {"ended": balloon.end_guests(records) if records else []}


def do(caller: Caller, limits: Limits, words: Words) -> Record:
    """`pause`, `resume`, or `suspend` (its memory goes into a file of root's). -> {}"""
    uuid, what = word(words, "uuid", UUID), word(words, "do")
    record = load(GUEST).get(uuid + GUEST)
    if record is None or not caller.owns(record["uid"]):
        raise Refused(f"guest {uuid} is none of yours")
    one = _domain(uuid)
    if one is None or one.over:
        raise Refused(f"guest {record['name']} does not run")
    if what == "pause" and not one.paused:  # pauses are counted
        must("pause", str(one.id))
    elif what == "resume":
        _resume(uuid)
    elif what == "suspend":
        _suspend(one, RECORDS / balloon.saved_name(uuid + GUEST))
    elif what != "pause":
        raise Refused(f"guests can be paused, resumed and suspended, not {one_line(what, 20)}")
    return {}


def show(caller: Caller, limits: Limits, words: Words) -> Record:
    """All guests of this node and its memory; strays are undone first.

    -> {strays, domains: [{name, uuid, mib, state, uid, why}], ended: {uuid: why}, dom0_mib, ...}
    """
    strays = balloon.sweep(limits)
    records, there = load(GUEST), domains()
    known = {one["uuid"]: one for one in records.values()}
    rows = []
    for one in there:
        record = known.get(one.uuid)
        row = {"name": one_line(one.name, 120), "uuid": one.uuid, "mib": one.mib}
        row.update(state=one.state, over=one.over, uid=record["uid"] if record else None)
        row["slot"] = record["slot"] if record else None
        rows.append(row)
    gone = [one for uuid, one in known.items() if uuid not in {row["uuid"] for row in rows}]
    ended = {one["uuid"]: _why(one) for one in gone if caller.owns(one["uid"])}
    return {"strays": strays, "domains": rows, "ended": ended, **balloon.state(limits, caller)}


def end_strangers(caller: Caller, limits: Limits, words: Words) -> Record:
    """Guests that are nobody's here: root alone may, and names each. -> {ended}"""
    if caller.uid:
        raise Refused("only root may end guests that are not wspilot's")
    uuids = [uuid for uuid in _uuids(words) if uuid + GUEST not in load(GUEST)]
    return {"ended": balloon.destroy(uuids)}


def facts(caller: Caller, limits: Limits, words: Words) -> Record:
    """What selftest judges: xl's own words about this node, and this node's limits."""
    info = root_xl.parse_info(must("info"))
    conf = Path("/etc/xen/xl.conf")
    dev = [name for name in ("stdin", "fd", "loop-control") if not os.path.lexists(f"/dev/{name}")]
    scripts = [one for one in ("vif-bridge", "block") if not (SCRIPTS / one).exists()]
    wanted = ("xen_version", "xen_commandline", "total_memory", "free_memory", "release")
    return {
        **{key: one_line(info.get(key, ""), 300) for key in wanted},
        "xl_conf": one_line(_autoballoon(conf.read_text() if conf.exists() else ""), 40),
        "dev": dev,
        "scripts": scripts,
        "dom0_min_mib": limits.number("xen", "dom0_min_mib"),
        "reserve_mib": limits.number("xen", "reserve_mib"),
        "domains": len(domains()),
        "available_mib": balloon.available_kb() // 1024,
        **balloon.state(limits, caller),
    }


def _autoballoon(text: str) -> str:
    """The last word of xl.conf about it."""
    found = re.findall(r"^\s*autoballoon\s*=\s*(\S+)", text, re.MULTILINE)
    return str(found[-1]).strip("\"'") if found else "auto"


VERBS: dict[str, Callable[[Caller, Limits, Words], Record]] = {
    "balloon-take": balloon.take,
    "balloon-give": balloon.give,
    "xen-create": create,
    "xen-end": end,
    "xen-do": do,
    "xen-list": show,
    "xen-end-strangers": end_strangers,
    "xen-facts": facts,
}


# -- a guest's words


def _guest(caller: Caller, words: Words) -> Record:
    """The guest as a record: every word checked, so that `config` can use them."""
    vm = word(words, "vm", VM)
    append = words.get("append") or ""
    if not isinstance(append, str) or len(append) > root_xl.APPEND_LIMIT:
        raise Refused(f"`append` is no text of at most {root_xl.APPEND_LIMIT} characters")
    if not root_xl.PLAIN.fullmatch(append):
        raise Refused("`append` holds quotes, a backslash, or what is not plain text")
    return {
        "uid": caller.uid,
        "boot": boot_id(),
        "journal": journal_of(caller, words),
        "slot": word(words, "slot"),
        "vm": vm,
        "name": f"ws-{caller.uid}-{vm}",
        "uuid": word(words, "uuid", UUID),
        "kind": word(words, "kind", re.compile("|".join(root_xl.KINDS))),
        "cpus": number(words, "cpus", 1, MOST_CPUS),
        "mib": number(words, "mib", 1, MOST_MIB),
        "kernel": word(words, "kernel", root_xl.PATH),
        "initrd": word(words, "initrd", root_xl.PATH) if words.get("initrd") else "",
        "append": append,
        "nics": [_nic(caller, vm, one) for one in _some(words, "nics")],
        "disks": [_disk(one) for one in _some(words, "disks")],
    }


def _some(words: Words, key: str) -> list[Any]:
    found = words.get(key) or []
    if not isinstance(found, list) or len(found) > MOST_DISKS:
        raise Refused(f"`{key}` is not a list of at most {MOST_DISKS}")
    return found


def _nic(caller: Caller, vm: str, vif: object) -> Record:
    """A NIC that `net-attach` has pinned for this VM: no other may there be."""
    if not isinstance(vif, str) or not VIF.fullmatch(vif):
        raise Refused(f"{one_line(repr(vif), 40)} is no NIC")
    record = load(TAP).get(vif + TAP)
    if record is None or not caller.owns(record["uid"]) or record["vm"] != vm:
        raise Refused(f"NIC {vif} was not attached for VM {vm}")
    return {"vif": vif, "mac": record["mac"], "bridge": record["bridge"]}


def _disk(one: object) -> Record:
    if not isinstance(one, dict) or one.get("access") not in ("r", "w"):
        raise Refused(f"{one_line(repr(one), 80)} is no disk")
    return {
        "path": word(one, "path", root_xl.PATH),
        "vdev": word(one, "vdev", VDEV),
        "access": str(one["access"]),
    }


def _check_room(guest: Words, name: str) -> None:
    """A pilot's guests have the memory that it took, and no more. Raises Refused."""
    take = load(TAKE).get(balloon.take_name(guest["uid"], guest["journal"]))
    if take is None or take["boot"] != boot_id():
        raise Refused("this pilot has taken no memory for guests")
    used = sum(
        one["mib"] + overhead_mib(one["mib"])
        for n, one in load(GUEST).items()
        if n != name and one["journal"] == guest["journal"]
    )
    need = guest["mib"] + overhead_mib(guest["mib"])
    if used + need > take["kb"] // 1024:
        raise Refused(
            f"{need} MiB for {guest['name']} and {used} MiB for its sisters are more than the "
            f"{take['kb'] // 1024} MiB that were taken"
        )


# -- starting one


def _start(caller: Caller, guest: Record, saved: Path | None, limit_s: float) -> int:
    """xl create or restore; the domain's id. Raises Refused, OSError."""
    path = balloon.config_path(guest["uuid"])
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with contextlib.ExitStack() as stack:
        files = {
            key: stack.enter_context(_handed(caller, guest[key], "r"))
            for key in ("kernel", "initrd")
            if guest[key]
        }
        disks = [stack.enter_context(_loop(caller, one)) for one in guest["disks"]]
        stack.callback(path.unlink, missing_ok=True)
        path.write_text(root_xl.config(guest, files, disks, _block_script() if disks else ""))
        argv = ["restore", str(path), str(saved)] if saved else ["create", "-q", str(path)]
        must(*argv, limit_s=SAVE_S if saved else limit_s)
    found = _domain(guest["uuid"])
    if found is None:
        raise Refused(f"{guest['name']} ended at once: {_why({**guest, 'domid': None}) or 'why?'}")
    return found.id


def _block_script() -> str:
    """Beside the records: /run may be mounted noexec. By rename: another guest may run it now."""
    path = RECORDS / "block"
    if not path.exists() or path.read_text() != BLOCK:
        draft = RECORDS / ".block"
        draft.write_text(BLOCK)
        draft.chmod(0o755)
        draft.rename(path)
    return str(path)


@contextlib.contextmanager
def _opened(caller: Caller, path: str, access: str) -> Iterator[int]:
    """A regular file, opened with the caller's rights and none of root's."""
    groups = os.getgroups()
    try:
        if caller.uid:
            os.initgroups(caller.name, caller.gid)
            os.setegid(caller.gid)
            os.seteuid(caller.uid)
        flags = (os.O_RDWR if access == "w" else os.O_RDONLY) | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(path, flags)
    except OSError as error:
        raise Refused(f"{path} cannot be opened by {caller.name}: {error.strerror}") from None
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise Refused(f"{path} is not a file")
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _handed(caller: Caller, path: str, access: str) -> Iterator[str]:
    """A path by which xl opens exactly the file that was opened here."""
    with _opened(caller, path, access) as fd:
        yield f"/proc/{os.getpid()}/fd/{fd}"


@contextlib.contextmanager
def _loop(caller: Caller, disk: Mapping[str, str]) -> Iterator[str]:
    """A loop device above the file, which frees itself when nobody has it open any more."""
    flags = LO_AUTOCLEAR | (LO_READ_ONLY if disk["access"] == "r" else 0)
    with _opened(caller, disk["path"], disk["access"]) as backing:
        name = os.fsencode(disk["path"])[-63:]
        config = struct.pack("=II16xQQQIIII64s64s32s16x64x", backing, 0, 0, 0, 0, 0, 0, 0, flags,
                             name, b"", b"")  # fmt: skip
        device = _free_loop(config)
    try:
        yield device[0]
    finally:
        os.close(device[1])


def _free_loop(config: bytes) -> tuple[str, int]:
    """A free loop device, configured: its path, and the descriptor that holds it."""
    with open("/dev/loop-control", "rb") as control:
        for _ in range(20):
            path = f"/dev/loop{fcntl.ioctl(control, LOOP_GET_FREE)}"
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(fd, LOOP_CONFIGURE, config)
                return path, fd
            except OSError as error:
                os.close(fd)
                if error.errno != 16:  # EBUSY: somebody else was faster
                    raise Refused(f"{path}: {error.strerror}", "Linux 5.8 or newer") from None
    raise Refused("no loop device is free")


def _tty(caller: Caller, domid: int) -> str:
    """Its console, which is the caller's from now on."""
    path = run(["xenstore-read", f"/local/domain/{domid}/console/tty"]).strip()
    if not re.fullmatch(r"/dev/pts/\d+", path):
        raise Refused(f"xenstore names the console {one_line(repr(path), 60)}")
    os.chown(path, caller.uid, caller.gid)
    Path(path).chmod(0o600)
    return path


# -- ending and looking


def _uuids(words: Words) -> list[str]:
    found = words.get("uuids")
    if not isinstance(found, list) or len(found) > 1024:
        raise Refused("`uuids` is no list")
    return [word({"uuid": one}, "uuid", UUID) for one in found]


def _is_lost(caller: Caller, uuid: str) -> bool:
    """A guest whose record was lost: its name still says whose it is."""
    one = _domain(uuid)
    return one is not None and (not caller.uid or one.name.startswith(f"ws-{caller.uid}-"))


def _domain(uuid: str) -> Domain | None:
    return next((one for one in domains() if one.uuid == uuid), None)


def _ask_to_go(uuids: Sequence[str], grace_s: float) -> None:
    """The guests' power buttons, and the time that they have."""
    until = time.monotonic() + grace_s
    there = [one for one in domains() if one.uuid in uuids and not one.over]
    for one in there:
        if one.paused:
            _resume(one.uuid)
        xl("shutdown", str(one.id))
    while there and time.monotonic() < until:
        time.sleep(POLL_S)
        there = [one for one in domains() if one.uuid in uuids and not one.over]


def _resume(uuid: str) -> None:
    """Pauses are counted: until it is not paused any more."""
    for _ in range(5):
        one = _domain(uuid)
        if one is None or not one.paused:
            return
        must("unpause", str(one.id))
    raise Refused("it stays paused: somebody else paused it too")


def _suspend(one: Domain, path: Path) -> None:
    """xl save: it is gone afterwards. Raises Refused; then it runs on."""
    disk = os.statvfs(RECORDS)
    free = disk.f_bavail * disk.f_frsize >> 20
    if free < one.mib + 64:
        raise Refused(f"{RECORDS} has {free} MiB left, and {one.mib} MiB are to be saved there")
    try:
        path.touch(mode=0o600)
        must("save", str(one.id), str(path), limit_s=SAVE_S)
    except (Refused, OSError):
        path.unlink(missing_ok=True)
        raise


def _why(record: Words) -> str:
    """Why a guest that is gone has ended: poweroff, reboot, crash, or nothing known."""
    path, domid = LOG / f"xl-{record['name']}.log", record.get("domid")
    try:
        text = path.read_text(errors="replace")[-4000:]
    except OSError:
        return ""
    if domid is None:
        known = re.findall(r"^Domain (\d+) has shut down", text, re.MULTILINE)
        domid = int(known[-1]) if known else -1
    return root_xl.end_reason(text, int(domid))
