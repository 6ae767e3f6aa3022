"""`python -m tests.sim --seeds A:B`: half open; exit 1 on a violation; the count comes last."""

from __future__ import annotations

import argparse
import sys
import time

from tests.sim.play import Violation, play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--seeds", default="0:200", metavar="A:B")
    first, _, last = parser.parse_args().seeds.partition(":")
    begin, bad = time.perf_counter(), 0
    seeds = range(int(first), int(last))
    for seed in seeds:
        try:
            play(seed)
        except Violation as error:
            bad += 1
            print(error)
    rate = len(seeds) / (time.perf_counter() - begin)
    print(f"{len(seeds)} seeds, {bad} violations, {rate:.1f} seeds a second")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
