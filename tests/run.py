"""Run the test stages, each within its time, and print one closing line with all counts.

usage: python -m tests.run [--fast] [--without=STAGE...] [STAGE...] [-- pytest arguments]

Invariant: when this ends, by itself, by Ctrl-C or by SIGTERM, nothing that it started is running,
and its temporary directory is gone. What a stage left running is a failure of that stage.
With CI=true in the environment anything missing is a failure. Exit 0 good, 1 failed, 2 a named
stage cannot run here, 130 interrupted.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests import processes, stages
from tests.processes import Process
from tests.stages import Stage

SLACK = 1.5
"""A stage is stopped at this many times its budget."""
ESCALATION = ((signal.SIGINT, 20.0), (signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
"""How a stage is stopped, and the seconds each step is given: fixtures clean up on the first."""
SETTLE = 6.0
"""Seconds in which what ends by itself after its test (an idle daemon) may still do so."""
SIDE_BY_SIDE = 2
_SIGNALS = {signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@dataclass
class Result:
    """What became of one stage."""

    stage: Stage
    seconds: float = 0.0
    outcomes: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """Failures that are no test's: each counts as one."""
    lacks: list[str] = field(default_factory=list)
    note: str = ""

    def count(self, outcome: str) -> int:
        found = sum(1 for value in self.outcomes.values() if value == outcome)
        return found + len(self.problems) if outcome == "failed" else found


@dataclass
class Running:
    """A stage that has been started and not yet reaped."""

    result: Result
    process: Process
    tally: Path
    log: Path | None
    began: float
    limit: float
    step: int = -1
    """How far stopping it has gone; -1 when nobody wants it stopped."""
    next_step: float = float("inf")

    def stop(self, now: float, step: int = 0) -> None:
        """Send this step's signal: the first to the stage alone, the later ones to its group."""
        self.step = min(step, len(ESCALATION) - 1)
        number, patience = ESCALATION[self.step]
        self.next_step = now + patience
        if number is signal.SIGINT:
            self.process.kill(number)
            return
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass


def read_tally(path: Path) -> tuple[dict[str, str], str, list[str]]:
    """Outcome by test, the test that had begun last, and the reasons of skips."""
    rank = {"passed": 0, "skipped": 1, "failed": 2}
    outcomes: dict[str, str] = {}
    begun, reasons = "", []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        node, _, reason = rest.partition("\t")
        if word == "begin":
            begun = node
        elif word in rank and rank[word] >= rank.get(outcomes.get(node, ""), -1):
            outcomes[node] = word
            if word == "skipped":
                reasons.append(f"{node}: {reason}")
    return outcomes, begun, reasons


class Runner:
    """Carries stages out: at most two that share, or one that wants the machine for itself."""

    def __init__(
        self,
        root: Path,
        table: Sequence[Stage],
        *,
        names: Sequence[str] = (),
        ci: bool = False,
        extra: Sequence[str] = (),
    ) -> None:
        self.root, self.ci, self.extra, self.named = root, ci, list(extra), bool(names)
        self.files, self.homeless = stages.assign(table, stages.test_files(root))
        chosen = [s for s in table if s.name in names or (not names and (ci or not s.only_in_ci))]
        self.results = [Result(stage) for stage in chosen]
        self.running: list[Running] = []
        self.interrupted = 0
        self.temp = Path(tempfile.mkdtemp(prefix="wsrun-"))
        self.temp.chmod(0o1777)  # also for what a test runs as another user

    def run(self) -> int:
        """All stages; returns the exit code."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)  # what is ignored could not be waited for
        processes.become_subreaper()
        try:
            waiting = [r for r in self.results if self._can_run(r)]
            shared = [r for r in waiting if not r.stage.alone]
            self._batch(shared, SIDE_BY_SIDE if len(shared) > 1 else 1)
            for result in waiting:
                if result.stage.alone:
                    self._batch([result], 1)
        finally:
            self._end_everything()
        return self._report()

    def _can_run(self, result: Result) -> bool:
        stage = result.stage
        if stage.files and not self.files.get(stage.name):
            result.note = "has no tests yet"
        elif stage.only_with and not (self.root / stage.only_with).exists():
            result.note = f"not there yet ({stage.only_with})"
        result.lacks = [] if result.note else stages.missing(stage)
        if result.lacks and self.ci:
            result.problems += [f"{stage.name}: missing in CI: {lack}" for lack in result.lacks]
        return not result.note and not result.lacks

    def _batch(self, queue: list[Result], width: int) -> None:
        queue = list(queue)
        batch = list(queue)
        while (queue and not self.interrupted) or self.running:
            while queue and not self.interrupted and len(self.running) < width:
                self._start(queue.pop(0), live=width == 1)
            self._wait()
        if batch:
            self._survivors(batch)

    def _start(self, result: Result, *, live: bool) -> None:
        stage = result.stage
        where = self.temp / stage.name
        tally = where.with_suffix(".tally")
        log = None if live else where.with_suffix(".log")
        limit = stage.budget * SLACK
        argv = [sys.executable, "-m"]
        if stage.commands:
            argv += ["tests.run", "--commands", stage.name]
        else:
            argv += ["pytest", "-p", "tests.tally", "--color=auto", f"--basetemp={where}"]
            argv += ["-p", "no:cacheprovider", "-q", *self.extra, *self.files[stage.name]]
        env = {**os.environ, "WSPILOT_TALLY": str(tally), "TMPDIR": str(self.temp)}
        print(f"== {stage.name}: started, budget {stage.budget:.0f} s", flush=True)
        with open(log or os.devnull, "wb") as output:
            process = processes.start(argv, env, output if log else None, self.root)
        now = time.monotonic()
        self.running.append(Running(result, process, tally, log, now, now + limit))

    def _wait(self) -> None:
        """Until something happens, at most 0.2 s; then deal with it."""
        got = signal.sigtimedwait(_SIGNALS, 0.2)
        now = time.monotonic()
        if got is not None and got.si_signo != signal.SIGCHLD:
            self.interrupted += 1
            print("\ninterrupted: stopping what runs (again: at once)", flush=True)
            for one in self.running:
                one.stop(now, 0 if self.interrupted == 1 else len(ESCALATION) - 1)
        for one in self.running:
            if one.step < 0 and now > one.limit:
                text = f"stopped at {SLACK} times its budget of {one.result.stage.budget:.0f} s"
                one.result.problems.append(f"{one.result.stage.name}: {text}")
                one.stop(now)
            elif now > one.next_step:
                one.stop(now, one.step + 1)
        for pid, code in self._reap():
            for one in [r for r in self.running if r.process.pid == pid]:
                self.running.remove(one)
                self._finish(one, code)

    def _reap(self) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return found
            if pid == 0:
                return found
            found.append((pid, os.waitstatus_to_exitcode(status)))

    def _finish(self, one: Running, code: int) -> None:
        result, name = one.result, one.result.stage.name
        result.seconds = time.monotonic() - one.began
        result.outcomes, begun, reasons = read_tally(one.tally)
        if begun and begun not in result.outcomes:
            result.problems.append(f"{name}: ended in the middle of {begun}")
        nothing_chosen = code == 5 and bool(self.extra)
        if code and not result.count("failed") and not nothing_chosen and not self.interrupted:
            result.problems.append(f"{name}: ended with exit code {code}")
        if self.ci and result.stage.real:
            result.problems += [f"skipped in CI, so a part is missing: {r}" for r in reasons]
            result.outcomes = {n: o for n, o in result.outcomes.items() if o != "skipped"}
        if one.log is not None:
            sys.stdout.flush()
            sys.stdout.write(one.log.read_text(encoding="utf-8", errors="replace"))
        print(f"== {name}: {result.seconds:.1f} s, {counts(result)}", flush=True)

    def _survivors(self, batch: Sequence[Result]) -> None:
        """Whatever is still below us now was left behind by this batch."""
        found = processes.descendants(os.getpid())
        left = processes.wait_until_gone(found, SETTLE, self._reap)
        for process in left:
            what = f"left running: {process.pid} {process.command()}"
            if not self.interrupted:
                batch[-1].problems.append(f"{'/'.join(r.stage.name for r in batch)}: {what}")
            print(what, flush=True)
        self._kill(left)

    def _kill(self, left: Sequence[Process]) -> None:
        for process in left:
            process.kill()
        processes.wait_until_gone(left, 5.0, self._reap)

    def _end_everything(self) -> None:
        self._kill(processes.descendants(os.getpid()))
        shutil.rmtree(self.temp, ignore_errors=True)

    def _report(self) -> int:
        print("\nstage      time  limit  result")
        for r in self.results:
            told = "could not run here" if r.lacks else r.note or counts(r)
            print(f"{r.stage.name:8} {r.seconds:5.0f} s {r.stage.budget * SLACK:4.0f} s  {told}")
        for r in self.results:
            for lack in r.lacks:
                print(f"{r.stage.name} could not run here; it needs {lack}")
        problems = [p for r in self.results for p in r.problems]
        problems += [f"belongs to no stage (tests/stages.py): {path}" for path in self.homeless]
        for r in self.results:
            problems += [f"failed: {n}" for n, outcome in r.outcomes.items() if outcome == "failed"]
        print(*problems, sep="\n", end="\n" if problems else "")
        passed, skipped = (sum(r.count(o) for r in self.results) for o in ("passed", "skipped"))
        print(closing_line(passed, len(problems), skipped), flush=True)
        if self.interrupted:
            return 130
        if problems:
            return 1
        return 2 if self.named and any(r.lacks for r in self.results) else 0


def counts(result: Result) -> str:
    """`3 passed, 1 failed` of one stage."""
    return closing_line(*(result.count(o) for o in ("passed", "failed", "skipped")))


def closing_line(passed: int, failed: int, skipped: int) -> str:
    """The line that CI reads, alone on a line."""
    return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")


def run_commands(name: str) -> int:
    """The inside of a stage of commands: each one is a test."""
    stage = next(s for s in stages.STAGES if s.name == name)
    failed = 0
    for argv in stage.commands:
        words = " ".join([Path(argv[0]).name, *argv[1:]])
        print(f"$ {words}", flush=True)
        code = subprocess.run(argv, stdin=subprocess.DEVNULL, check=False).returncode
        failed += code != 0
        with open(os.environ["WSPILOT_TALLY"], "a", encoding="utf-8") as tally:
            tally.write(f"{'failed' if code else 'passed'} {words}\n")
    return 1 if failed else 0


def main(arguments: Sequence[str]) -> int:
    """Read the command line and run."""
    args = list(arguments)
    if args[:1] == ["--commands"]:
        return run_commands(args[1])
    extra: list[str] = []
    if "--" in args:
        cut = args.index("--")
        args, extra = args[:cut], args[cut + 1 :]
    if "--fast" in args:
        args.remove("--fast")
        extra = ["-m", "not slow", *extra]
    without = [arg.partition("=")[2] for arg in args if arg.startswith("--without=")]
    args = [arg for arg in args if not arg.startswith("--without=")]
    known = [stage.name for stage in stages.STAGES]
    if wrong := [name for name in (*args, *without) if name not in known]:
        print(f"no such stage: {', '.join(wrong)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    ci = os.environ.get("CI", "").lower() in ("true", "1", "yes")
    root = Path(__file__).resolve().parent.parent
    if without:
        args = [name for name in args or _default(ci) if name not in without]
    return Runner(root, stages.STAGES, names=args, ci=ci, extra=extra).run()


def _default(ci: bool) -> list[str]:
    return [stage.name for stage in stages.STAGES if ci or not stage.only_in_ci]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
