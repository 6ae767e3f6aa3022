"""The stage runner of `make test`, tried on small trees of its own in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import processes, run, stages
from tests.stages import Need, Stage

REPO = Path(__file__).resolve().parents[2]
DRIVER = """
import sys
from pathlib import Path
from tests import run
from tests.stages import Need, Stage
run.SETTLE = 0.3
sys.exit(run.Runner(Path(sys.argv[1]), {table}, ci={ci}, names={names}).run())
"""


def begin(
    tree: Path, table: list[Stage], *, ci: bool = False, names: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """A runner of `table` over the tests below `tree`."""
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER.format(table=table, ci=ci, names=names), str(tree)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPO), "TMPDIR": str(tree)},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as behind `&` in sh
    )


def outcome(
    tree: Path, table: list[Stage], *, ci: bool = False, names: tuple[str, ...] = ()
) -> tuple[int, str, str]:
    """Exit code, closing line and whole output of a run."""
    child = begin(tree, table, ci=ci, names=names)
    text, _ = child.communicate(timeout=60)
    return child.returncode, text.rstrip().splitlines()[-1], text


def write(tree: Path, name: str, text: str) -> None:
    path = tree / "tests" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def stage(name: str, budget: float = 20, **more: object) -> Stage:
    return Stage(name, budget, files=(f"tests/{name}/*",), **more)  # type: ignore[arg-type]


def test_counts_of_all_stages_are_summed(tmp_path: Path) -> None:
    write(tmp_path, "a/test_a.py", "def test_1(): pass\ndef test_2(): assert 0\n")
    write(tmp_path, "b/test_b.py", "import pytest\ndef test_1(): pass\ndef test_2(): pytest.skip()")
    code, last, text = outcome(tmp_path, [stage("a", alone=False), stage("b", alone=False)])
    assert (code, last) == (1, "2 passed, 1 failed, 1 skipped"), text
    assert "failed: tests/a/test_a.py::test_2" in text


def test_all_good_is_exit_0_and_leaves_no_directory(tmp_path: Path) -> None:
    write(tmp_path, "a/test_a.py", "def test_1(): pass\n")
    code, last, text = outcome(tmp_path, [stage("a")])
    assert (code, last) == (0, "1 passed, 0 failed"), text
    assert list(tmp_path.glob("wsrun-*")) == []


@pytest.mark.slow
def test_a_stage_over_its_budget_is_stopped_with_its_children(tmp_path: Path) -> None:
    write(
        tmp_path,
        "a/test_a.py",
        "import pathlib, subprocess, time\n"
        "def test_quick(): pass\n"
        "def test_slow():\n"
        "    child = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
        f"    pathlib.Path('{tmp_path}/pid').write_text(str(child.pid))\n"
        "    time.sleep(300)\n",
    )
    before = time.monotonic()
    code, last, text = outcome(tmp_path, [stage("a", budget=8)])
    assert time.monotonic() - before < 50
    assert code == 1 and last.startswith("1 passed, "), text
    assert "stopped at 1.5 times its budget of 8 s" in text
    assert "ended in the middle of tests/a/test_a.py::test_slow" in text
    left = processes.look_up(int((tmp_path / "pid").read_text()))
    assert left is None or not left.is_alive()


@pytest.mark.slow
def test_a_stage_that_ignores_the_interrupt_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        tmp_path,
        "a/test_a.py",
        "import signal, time\n"
        "def test_deaf():\n"
        "    for n in (signal.SIGINT, signal.SIGTERM): signal.signal(n, signal.SIG_IGN)\n"
        "    time.sleep(300)\n",
    )
    quick = "run.ESCALATION = tuple((n, 0.5) for n, _ in run.ESCALATION)\nrun.SETTLE ="
    monkeypatch.setattr(sys.modules[__name__], "DRIVER", DRIVER.replace("run.SETTLE =", quick))
    code, last, text = outcome(tmp_path, [stage("a", budget=1)])
    assert code == 1 and last.startswith("0 passed, "), text


def test_what_a_test_leaves_running_is_a_failure_and_is_killed(tmp_path: Path) -> None:
    write(
        tmp_path,
        "a/test_a.py",
        "import os\n"
        "def test_daemon():\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        if os.fork() == 0: os.execvp('sleep', ['sleep', '301'])\n"
        "        os._exit(0)\n"
        "    os.wait()\n",
    )
    code, last, text = outcome(tmp_path, [stage("a")])
    assert (code, last) == (1, "1 passed, 1 failed"), text
    pid = int(text.split("left running: ")[1].split()[0])
    left = processes.look_up(pid)
    assert left is None or not left.is_alive()


def test_a_missing_program_is_listed_with_how_to_get_it(tmp_path: Path) -> None:
    write(tmp_path, "a/test_a.py", "def test_1(): pass\n")
    write(tmp_path, "b/test_b.py", "def test_1(): pass\n")
    table = [stage("a"), stage("b", needs=(Need("no-such-program", "no-such-package"),))]
    code, last, text = outcome(tmp_path, table)
    assert (code, last) == (0, "1 passed, 0 failed"), text
    assert "no-such-program (apt-get install --no-install-recommends no-such-package)" in text
    code, last, text = outcome(tmp_path, table, ci=True)
    assert (code, last) == (1, "1 passed, 1 failed"), text
    code, last, text = outcome(tmp_path, table, names=("b",))
    assert (code, last) == (2, "0 passed, 0 failed"), text


def test_a_skip_in_a_real_stage_is_a_failure_in_ci(tmp_path: Path) -> None:
    write(tmp_path, "a/test_a.py", "import pytest\ndef test_1(): pytest.skip('no such machine')")
    code, last, text = outcome(tmp_path, [stage("a", real=True)], ci=True)
    assert (code, last) == (1, "0 passed, 1 failed"), text
    assert "no such machine" in text


def test_a_module_that_cannot_be_imported_is_a_failure(tmp_path: Path) -> None:
    write(tmp_path, "a/test_a.py", "import no_such_module\n")
    code, last, text = outcome(tmp_path, [stage("a")])
    assert (code, last) == (1, "0 passed, 1 failed"), text


def test_a_file_of_no_stage_is_a_failure(tmp_path: Path) -> None:
    write(tmp_path, "a/test_a.py", "def test_1(): pass\n")
    write(tmp_path, "lost/test_b.py", "def test_1(): pass\n")
    code, last, text = outcome(tmp_path, [stage("a")])
    assert (code, last) == (1, "1 passed, 1 failed"), text
    assert "tests/lost/test_b.py" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_everything(tmp_path: Path, number: signal.Signals) -> None:
    write(
        tmp_path,
        "a/test_a.py",
        "import pathlib, subprocess, time, pytest\n"
        "@pytest.fixture\n"
        "def thing():\n"
        "    yield\n"
        f"    pathlib.Path('{tmp_path}/finalised').touch()\n"
        "def test_slow(thing):\n"
        "    child = subprocess.Popen(['sleep', '302'], start_new_session=True)\n"
        f"    pathlib.Path('{tmp_path}/pid.new').write_text(str(child.pid))\n"
        f"    pathlib.Path('{tmp_path}/pid.new').rename('{tmp_path}/pid')\n"
        "    time.sleep(300)\n",
    )
    child = begin(tmp_path, [stage("a")])
    end = time.monotonic() + 20
    while not (tmp_path / "pid").exists() and time.monotonic() < end:
        time.sleep(0.05)
    child.send_signal(number)
    text, _ = child.communicate(timeout=12)
    assert child.returncode == 130, text
    assert (tmp_path / "finalised").exists(), text
    left = processes.look_up(int((tmp_path / "pid").read_text()))
    assert left is None or not left.is_alive()
    assert list(tmp_path.glob("wsrun-*")) == []


def test_commands_count_as_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSPILOT_TALLY", str(tmp_path / "tally"))
    monkeypatch.setattr(stages, "STAGES", [Stage("c", 1, commands=(("true",), ("false",)))])
    assert run.run_commands("c") == 1
    assert run.read_tally(tmp_path / "tally")[0] == {"true": "passed", "false": "failed"}


def test_a_failing_teardown_makes_a_passed_test_failed(tmp_path: Path) -> None:
    (tmp_path / "tally").write_text("begin x\npassed x\nfailed x\nbegin y\n")
    assert run.read_tally(tmp_path / "tally") == ({"x": "failed"}, "y", [])


def test_every_test_file_of_this_repository_has_a_stage() -> None:
    _, homeless = stages.assign(stages.STAGES, stages.test_files(REPO))
    assert homeless == []
