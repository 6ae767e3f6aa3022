"""Xen guests, for the root helper: made on memory that was taken, and ended; what Xen says of them.

A guest's record is written before its create: its uuid finds it again, also half-made. Its words
are `root_guest`'s, its files `root_disks`'.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from wspilot.node import root_balloon as balloon
from wspilot.node import root_xl
from wspilot.node.root_balloon import GUEST, domains, must, xl
from wspilot.node.root_disks import block_script, handed, loop
from wspilot.node.root_guest import UUID, check_room, guest_of
from wspilot.node.root_helper import (
    RECORDS,
    Caller,
    Limits,
    Record,
    Refused,
    Words,
    boot_id,
    forget,
    load,
    number,
    one_line,
    run,
    save,
    word,
)
from wspilot.node.root_xl import Domain

LOG, SCRIPTS = Path("/var/log/xen"), Path("/etc/xen/scripts")
CREATE_S, SAVE_S, GRACE_MOST_S = 120.0, 600.0, 600
POLL_S = 0.3


def patience_s(limits: Limits) -> float:
    """How long a call waits for another's: no step of that one takes longer."""
    return max(balloon.seconds(limits, "create_s", CREATE_S), SAVE_S) + balloon.DESTROY_S


# -- verbs


def create(caller: Caller, limits: Limits, words: Words) -> Record:
    """Start a guest, anew or (`restore`) from its saved memory. -> {domid, tty, name}

    Raises Refused; then nothing of it is left but, for one that was known before, its record.
    """
    balloon.check_user(caller, limits)
    guest = guest_of(caller, words)
    name, limit_s = guest["uuid"] + GUEST, balloon.seconds(limits, "create_s", CREATE_S)
    known = load(GUEST).get(name)
    if known is not None and not caller.owns(known["uid"]):
        raise Refused("that guest is another user's")
    if (known is None or known["boot"] != boot_id()) and _domain(guest["uuid"]) is not None:
        # What fails below is undone by its uuid: that would destroy whoever has it.
        raise Refused(f"{guest['uuid']} is another domain's uuid")
    check_room(guest, name)
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
        row.update(state=one.state, over=one.over)
        row["uid"] = record["uid"] if record else _named(one)
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


# -- starting one


def _start(caller: Caller, guest: Record, saved: Path | None, limit_s: float) -> int:
    """xl create or restore; the domain's id. Raises Refused, OSError."""
    path = balloon.config_path(guest["uuid"])
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with contextlib.ExitStack() as stack:
        files = {
            key: stack.enter_context(handed(caller, guest[key], "r"))
            for key in ("kernel", "initrd")
            if guest[key]
        }
        disks = [stack.enter_context(loop(caller, one)) for one in guest["disks"]]
        stack.callback(path.unlink, missing_ok=True)
        path.write_text(root_xl.config(guest, files, disks, block_script() if disks else ""))
        argv = ["restore", str(path), str(saved)] if saved else ["create", "-q", str(path)]
        must(*argv, limit_s=SAVE_S if saved else limit_s)
    found = _domain(guest["uuid"])
    if found is None:
        raise Refused(f"{guest['name']} ended at once: {_why({**guest, 'domid': None}) or 'why?'}")
    return found.id


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


def _named(one: Domain) -> int | None:
    """Whose guest it is, where its record was lost: see `_is_lost`. None: a stranger's."""
    found = re.fullmatch(r"ws-(\d{1,10})-[A-Za-z0-9_.-]+", one.name)
    return int(found[1]) if found else None


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
