"""`python -m tests.bench [NAME ...]`: the budgets of DESIGN.md section 10, as tables. No pass or
fail on time: a busy machine would make it lie."""

from __future__ import annotations

import sys

from tests.bench import (
    books,
    frames,
    hangs,
    images,
    killall,
    leases,
    live,
    network,
    pilot,
    policies,
    polls,
    preparing,
    spool,
    taps,
    tui,
)

ALL = {
    "books": books.run,
    "polls": polls.run,
    "pilot": pilot.run,
    "spool": spool.run,
    "frames": frames.run,
    "hangs": hangs.run,
    "images": images.run,
    "killall": killall.run,
    "leases": leases.run,
    "live": live.run,
    "network": network.run,
    "policies": policies.run,
    "preparing": preparing.run,
    "taps": taps.run,
    "tui": lambda: tui.run(quick=True),
}


def main(names: list[str]) -> int:
    unknown = set(names) - set(ALL)
    if unknown:
        print(f"no such benchmark: {', '.join(sorted(unknown))}; known: {', '.join(ALL)}")
        return 2
    for name in names or ALL:
        ALL[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
