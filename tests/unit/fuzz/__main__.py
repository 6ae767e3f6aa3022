"""`python -m tests.unit.fuzz --inputs 100000 [--seed N] [TARGET ...]`: the fuzzers by hand.

The last line is the count; exit 1 on a finding or on memory that grows.
"""

from __future__ import annotations

import argparse
import math
import sys

from tests.unit.fuzz.harness import run
from tests.unit.fuzz.targets import GROWTH_MIB, TARGETS


def main(argv: list[str]) -> int:
    """Run and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.unit.fuzz")
    parser.add_argument("--inputs", type=int, default=10_000, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    args = parser.parse_args(argv)
    chosen = [one for one in TARGETS if not args.targets or one.name in args.targets]
    if not chosen:
        parser.error(f"targets are: {', '.join(one.name for one in TARGETS)}")
    shares = sum(one.share for one in chosen)
    print(f"{'target':16} {'inputs':>8} {'seconds':>8} {'slowest':>9} {'grown':>9}  findings")
    reports = []
    for target in chosen:
        wanted = math.ceil(args.inputs * target.share / shares)
        report = run(target, wanted, args.seed * 100_000)
        reports.append(report)
        figures = f"{report.seconds:8.1f} {report.slowest * 1e3:6.0f} ms {report.grown:5.1f} MiB"
        print(f"{report.name:16} {report.inputs:8} {figures}  {len(report.findings)}")
        print(*(f"  {finding}" for finding in report.findings), sep="\n", end="", flush=True)
        print(end="\n" if report.findings else "")
    findings = sum(len(one.findings) for one in reports)
    grown = [one.name for one in reports if one.grown > GROWTH_MIB]
    inputs, seconds = sum(one.inputs for one in reports), sum(one.seconds for one in reports)
    for name in grown:
        print(f"{name}: memory grew by more than {GROWTH_MIB} MiB")
    print(f"{inputs} inputs, {seconds:.0f} s, {findings} findings, "
          f"{sum(one.grown for one in reports):.1f} MiB grown")  # fmt: skip
    return 1 if findings or grown else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
