"""Domain 0's memory, for the root helper: taken for a slot, verified, and given back completely.

Absolute, so that nothing drifts and a lost pilot leaks nothing: domain 0 has what it had before
the first slot (`FULL`), less the sum of what root's own records say is taken. A record is written
before its step and goes after its undoing was seen in /sys. `xl mem-set` returns before the memory
has moved (40 of 40), stalls in silence where none is free, and takes what it cannot hold: so every
step is looked at until it is done, and undone when it is not done in time.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from wspilot.node import root_xl
from wspilot.node.root_helper import (
    CONF,
    ENV,
    Caller,
    Limits,
    Record,
    Records,
    Refused,
    Words,
    boot_id,
    forget,
    head,
    is_stray,
    journal_of,
    load,
    number,
    one_line,
    save,
    word,
)
from wspilot.node.root_xl import Domain

WORK = Path("/run/wspilot-xen")
SYSFS = Path("/sys/devices/system/xen_memory/xen_memory0")
MEMINFO = Path("/proc/meminfo")
TAKE, GUEST, FULL = ".take", ".guest", "dom0.full"
XL_S, DESTROY_S, SETTLE_S = 20.0, 120.0, 30.0
MOST_S = 600.0  # what node.conf may give a step: whoever asks waits a little longer (root.XEN_S)
STALL_S = 4.0  # without a page that moved
SLACK_KB = 64  # of a domain 0 that is no PV guest, whose balloon counts a page or so off
LOWEST_MIB, MOST_MIB = 128, 1 << 24
POLL_S = 0.02
POLICIES = ("exact", "node")


# -- xl


def xl(*words: str, limit_s: float = XL_S) -> tuple[int, str, str]:
    """One xl command: exit code, stdout, stderr. Killed when its time is over; raises Refused.

    Into files, not pipes: a domain's monitor outlives `xl create` and might hold a pipe open.
    """
    with open(os.memfd_create("out"), "w+b") as out, open(os.memfd_create("err"), "w+b") as err:
        try:
            done = subprocess.run(
                ["xl", *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=limit_s,
                env=ENV,
                cwd="/",
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Refused(
                f"xl {words[0]} took longer than {limit_s:g} s",
                "does xenstored answer? xl list, as root",
            ) from None
        except OSError as error:
            raise Refused(
                f"xl cannot be started: {error.strerror}", "is this a Xen node?"
            ) from None
        out.seek(0)
        err.seek(0)
        texts = [file.read(1 << 20).decode("utf-8", "replace") for file in (out, err)]
    return done.returncode, texts[0], texts[1]


def must(*words: str, limit_s: float = XL_S) -> str:
    """The same; its stdout. Raises Refused, in one clear sentence, when it fails."""
    code, out, err = xl(*words, limit_s=limit_s)
    if code:
        raise root_xl.explain(words[0], code, err)
    return out


def domains() -> list[Domain]:
    """All guests: domain 0 is none."""
    return [one for one in root_xl.parse_list(must("list", "-v")) if one.id]


# -- what there is


def _kb(name: str) -> int:
    try:
        return int((SYSFS / name).read_text())
    except (OSError, ValueError):
        raise Refused(
            f"{SYSFS / name} cannot be read", "is this domain 0 of a node booted into Xen?"
        ) from None


def current_kb() -> int:
    """Domain 0's memory as it is now."""
    return _kb("info/current_kb")


def target_kb() -> int:
    """What it was last told to have."""
    return _kb("target_kb")


def available_kb() -> int:
    """What domain 0 could still give a program."""
    for line in MEMINFO.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1])
    raise Refused(f"{MEMINFO} has no MemAvailable")


def check_user(caller: Caller, limits: Limits) -> None:
    """May this caller have guests on this node? Raises Refused."""
    named = limits.text("xen", "users").replace(",", " ").split()
    if caller.uid and caller.name not in named and str(caller.uid) not in named:
        raise Refused(
            f"{caller.name} may not have Xen guests on this node",
            "the administrator names users in /etc/wspilot/node.conf: [xen] users",
        )


def seconds(limits: Limits, key: str, default: float) -> float:
    """A time limit of the administrator's (a slow node needs longer)."""
    found = float(limits.number("xen", key)) if limits.text("xen", key) else default
    if not 0 < found <= MOST_S:
        raise Refused(f"{CONF}: [xen] {key} is not 1 to {MOST_S:g} seconds")
    return found


# -- the verbs


def take(caller: Caller, limits: Limits, words: Words) -> Record:
    """Take memory from domain 0 for a pilot. -> {mib, dom0_mib, seconds}

    words: journal, slot, mib, policy (`exact`, or `node`: all but the reserve, at least mib).
    """
    began = time.monotonic()
    name, has, kb = book(caller, limits, words)
    try:
        settle(has - kb, seconds(limits, "settle_s", SETTLE_S))
    except Refused as error:
        settle(has, seconds(limits, "settle_s", SETTLE_S))  # first this, then the record
        unbook(name)
        raise Refused(f"{error}; it was given back", error.hint) from None
    return {
        "mib": kb // 1024,
        "dom0_mib": current_kb() // 1024,
        "seconds": round(time.monotonic() - began, 3),
    }


def book(caller: Caller, limits: Limits, words: Words) -> tuple[str, int, int]:
    """The record of a take, before anything moves: its name, and in KiB what domain 0 has and what
    of it is to go. Raises Refused."""
    check_user(caller, limits)
    record = head(caller, words)
    sweep(limits)
    name, takes = take_name(caller.uid, record["journal"]), load(TAKE)
    if name in takes:
        raise Refused("this pilot has taken its memory already")
    full, others = _full(takes), sum(one["kb"] for one in takes.values())
    kb = _amount(limits, words, full - others)
    save(FULL, {"boot": boot_id(), "kb": full})
    save(name, {**record, "kb": kb})
    return name, full - others, kb


def give(caller: Caller, limits: Limits, words: Words) -> Record:
    """Give a pilot's memory back to domain 0; guests of that pilot that are in the way are ended.

    Nothing taken is fine. -> {mib, ended: [names], dom0_mib}
    """
    journal = journal_of(caller, words) if caller.uid else str(words.get("journal"))
    for name, record in load(TAKE).items():
        if record["journal"] == journal:
            if not caller.owns(record["uid"]):
                raise Refused("that memory was taken by another user")
            ended = _undo(name, record, limits)
            return {"mib": record["kb"] // 1024, "ended": ended, "dom0_mib": current_kb() // 1024}
    return {"mib": 0, "ended": [], "dom0_mib": current_kb() // 1024}


def sweep(limits: Limits) -> list[str]:
    """Undo strays: guests and memory of pilots whose journal is gone, by records alone."""
    undone = []
    for name, record in load(GUEST).items():
        if is_stray(record):
            undone += end_guests({name: record})
    for name, record in load(TAKE).items():
        if record.get("boot") != boot_id():
            unbook(name)  # Xen was started anew: nothing of it is left
        elif is_stray(record):
            with contextlib.suppress(Refused):  # it stays on the books, and counts as taken
                undone += [*_undo(name, record, limits), f"{record['kb'] // 1024} MiB given back"]
    return undone


def _undo(name: str, record: Record, limits: Limits) -> list[str]:
    """One take, until /sys shows that it is undone. Raises Refused; then it stays on the books."""
    mine = {n: one for n, one in load(GUEST).items() if one["journal"] == record["journal"]}
    ended = end_guests(mine) if mine else []
    try:
        settle(without(name), seconds(limits, "settle_s", SETTLE_S))
    except Refused as error:
        names = [one_line(one.name, 60) for one in domains()]
        held = f"; guests on this node: {', '.join(names)}" if names else ""
        raise Refused(f"{error}{held}", error.hint) from None
    unbook(name)
    return ended


def without(name: str) -> int:
    """What domain 0 has when this take is undone, in KiB."""
    takes = load(TAKE)
    return _full(takes) - sum(int(one["kb"]) for n, one in takes.items() if n != name)


def unbook(name: str) -> None:
    """A take whose memory is back."""
    forget(name)
    if not load(TAKE):
        forget(FULL)


def take_name(uid: int, journal: str) -> str:
    """The record of a pilot's take."""
    return f"{uid}_{journal.rpartition('/')[2].partition('.')[0]}{TAKE}"


def taken(uid: int, journal: str) -> Optional[Record]:
    """What a pilot has taken: that of another journal by the same name is none of its own."""
    record = load(TAKE).get(take_name(uid, journal))
    return record if record is not None and record["journal"] == journal else None


def _full(takes: Records) -> int:
    """What domain 0 has when nothing is taken, in KiB."""
    record = load(FULL).get(FULL) if takes else None
    if record is None or record.get("boot") != boot_id():
        return target_kb()
    return int(record["kb"])


def _amount(limits: Limits, words: Words, has_kb: int) -> int:
    """How much, in KiB: checked against domain 0's minimum and what it has left. Raises Refused."""
    lowest = limits.number("xen", "dom0_min_mib")
    reserve, policy = limits.number("xen", "reserve_mib"), word(words, "policy")
    mib = number(words, "mib", 1, MOST_MIB)
    if lowest < LOWEST_MIB or policy not in POLICIES:
        raise Refused(f"dom0_min_mib is below {LOWEST_MIB}, or the policy is not {POLICIES}")
    spare = available_kb() - (current_kb() - has_kb) - reserve * 1024
    most = min(has_kb - lowest * 1024, spare) // 1024
    if mib > most:
        why = (
            f"domain 0 is too full: {max(0, spare) // 1024} MiB are available above its reserve "
            f"of {reserve} MiB"
            if spare < has_kb - lowest * 1024
            else f"domain 0 has {has_kb // 1024} MiB, and {lowest} MiB are its minimum"
        )
        raise Refused(f"{mib} MiB cannot be taken: {why}")
    return (most if policy == "node" else mib) * 1024


def settle(kb: int, limit_s: float) -> None:
    """Tell domain 0 its memory and look until it has it. Raises Refused when it has not in time.

    Linux gives up after some 15 s without a page and then sleeps for an hour, unless its target
    changes: the same target once more moves nothing. So it is changed when nothing has moved.
    """
    began = moved = time.monotonic()
    must("mem-set", "0", f"{kb}k")
    last = current_kb()
    while abs((has := current_kb()) - kb) > SLACK_KB:
        now = time.monotonic()
        if now - began > limit_s:
            raise Refused(
                f"domain 0 has {has // 1024} MiB {limit_s:g} s after it was told to have "
                f"{kb // 1024}",
                "somebody else's guests hold the memory, or domain 0 cannot give so much up",
            )
        if has != last:
            last, moved = has, now
        elif now - moved > STALL_S:
            must("mem-set", "0", f"{has}k")
            must("mem-set", "0", f"{kb}k")
            moved = time.monotonic()
        time.sleep(POLL_S)


# -- guests, as far as memory needs them gone


def end_guests(records: Records) -> list[str]:
    """Destroy the domains of these records and forget them; their names. Raises Refused, and then
    all of them stay on the books."""
    here = [one["uuid"] for one in records.values() if one.get("boot") == boot_id()]
    ended = destroy(here) if here else []
    for name, one in records.items():
        config_path(one["uuid"]).unlink(missing_ok=True)  # of a helper that was killed
        forget(saved_name(name))
        forget(name)
    return ended


def destroy(uuids: Sequence[str], limit_s: float = DESTROY_S) -> list[str]:
    """Destroy domains and wait until they are gone; their names. Raises Refused.

    By uuid: ids are used again, and a half-made domain has no name.
    """
    end, ended, asked = time.monotonic() + limit_s, [], set[int]()
    while there := [one for one in domains() if one.uuid in uuids]:
        if time.monotonic() > end:
            names = ", ".join(one_line(one.name, 60) for one in there)
            raise Refused(f"{names} does not go within {limit_s:g} s of xl destroy")
        for one in there:
            if one.id not in asked:
                asked.add(one.id)
                code, _, _ = xl("destroy", str(one.id), limit_s=limit_s)
                ended += [] if code else [one_line(one.name, 60)]
        time.sleep(POLL_S)
    return ended


def config_path(uuid: str) -> Path:
    """What xl is given of a guest, for as long as its create takes."""
    return WORK / f"{uuid}.cfg"


def saved_name(record: str) -> str:
    """Where a suspended guest's memory lies: beside its record, root's own."""
    return record[: -len(GUEST)] + ".saved"


def state(limits: Limits, caller: Optional[Caller] = None) -> dict[str, Any]:
    """Domain 0's memory, and what is taken of it."""
    takes = load(TAKE)
    missing = _full(takes) - sum(one["kb"] for one in takes.values()) - current_kb()
    return {
        "dom0_mib": current_kb() // 1024,
        "missing_mib": -(-missing // 1024) if missing > SLACK_KB else 0,
        "full_mib": _full(takes) // 1024,
        "taken_mib": sum(one["kb"] for one in takes.values()) // 1024,
        "takes": [
            {"slot": one["slot"], "uid": one["uid"], "mib": one["kb"] // 1024}
            for one in takes.values()
            if caller is None or caller.owns(one["uid"])
        ],
    }
