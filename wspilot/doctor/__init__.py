"""`wspilot doctor`: is this site fit for leases? Each check has a verdict and a remedy.

Nothing here changes a lease or asks the batch system for anything but its list of our jobs. A check
that itself fails is a failed check, never a traceback.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from wspilot.cli import render
from wspilot.cli.parse import Args
from wspilot.cli.verbs import home_of
from wspilot.doctor import daemon, files, host, lrm
from wspilot.doctor.verdict import Check, Facts, fail
from wspilot.errors import WspilotError
from wspilot.text import clean

CHECKS: tuple[tuple[str, Callable[[Facts], Iterator[Check]]], ...] = (
    ("daemon", daemon.alive),
    ("logout", daemon.logout),
    ("batch system", lrm.commands),
    ("epilogue", lrm.epilogue),
    ("spool", files.spool),
    ("owner", files.owner),
    ("disk", files.disk),
    ("python", host.python),
    ("vmm", host.vmm),
    ("clocks", daemon.clocks),
    ("nodes", daemon.nodes),
)


def run(args: Args) -> int:
    """Check everything, print as it goes. 0 when nothing failed, else 1."""
    found = []
    for check in examine(home_of(args), Path(args.config) if args.config else None):
        found.append(check)
        if not args.json:
            print(line(check), flush=True)
    failed = sum(check.verdict == "fail" for check in found)
    if args.json:
        print(json.dumps({"schema": 1, "checks": [vars(check) for check in found]}))
    else:
        print(f"{len(found)} checks, {failed} failed")
    return 1 if failed else 0


def examine(home: Path, config: Path | None) -> Iterator[Check]:
    """Every check, one after the other."""
    try:
        facts = Facts.gather(config, home)
    except WspilotError as error:
        yield fail("settings", error.message, error.hint)
        return
    site = facts.site
    yield Check("settings", "ok", f"{site.source}: LRM {site.lrm}, VMM {site.vmm}, home {home}")
    for name, check in CHECKS:
        try:
            yield from check(facts)
        except WspilotError as error:
            yield fail(name, error.message, error.hint)
        except OSError as error:
            yield fail(name, str(error), "see that place's rights and its disk")
        except Exception as error:  # one broken check must not hide the others
            yield fail(name, f"the check itself failed: {error!r}", "this is a bug: report it")


def line(check: Check) -> str:
    """One check for people: verdict, name, what was found; the remedy below."""
    colour = {"ok": "green", "warn": "yellow", "fail": "red"}[check.verdict]
    verdict = render.paint(f"{check.verdict:4}", colour)
    text = f"{verdict}  {check.name:12}  {clean(check.text, 600)}"
    remedy = clean(check.remedy, 600)
    return f"{text}\n{'':20}-> {remedy}" if remedy and check.verdict != "ok" else text
