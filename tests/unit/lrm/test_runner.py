"""The runner: bytes, no terminal, a time limit that holds for grandchildren too."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from wspilot.daemon.lrm import runner
from wspilot.daemon.lrm.base import Command, Result
from wspilot.daemon.lrm.runner import Runner, run_blocking


def run(*argv: str, **more: object) -> Result:
    return run_blocking(Command(argv, **more))  # type: ignore[arg-type]


def test_arguments_are_never_a_shell_string() -> None:
    assert run("/bin/echo", "$(id)", ";", "*").out == b"$(id) ; *\n"


def test_output_errors_and_code_come_back_as_bytes() -> None:
    result = run("sh", "-c", r"printf 'a\377'; echo no >&2; exit 153")
    assert (result.rc, result.out, result.err) == (153, b"a\xff", b"no\n")


def test_the_input_is_given_and_otherwise_empty() -> None:
    assert run("cat", stdin=b"\xff\n").out == b"\xff\n"
    assert run("cat").out == b""


def test_the_time_limit_kills_grandchildren_too() -> None:
    begin = time.monotonic()
    result = run("sh", "-c", "sleep 77.25 & sleep 77.25", timeout_s=0.5)
    assert result.timed_out and result.rc is None and time.monotonic() - begin < 20
    time.sleep(0.1)
    processes = (path for path in Path("/proc").iterdir() if path.name.isdigit())
    found = [path for path in processes if b"77.25" in _cmdline(path)]
    assert not found


def _cmdline(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_program_that_is_not_there() -> None:
    result = run("no-such-program")
    assert result.missing and result.rc is None


@pytest.mark.parametrize("text", ["echo no interpreter\n", "#!/no/such/interpreter\n"])
def test_what_cannot_be_started_is_told_not_raised(tmp_path: Path, text: str) -> None:
    """It would have ended the daemon's queue of commands."""
    program = tmp_path / "qsub"
    program.write_text(text)
    program.chmod(0o700)
    result = run(str(program))
    assert result.missing and result.rc is None and b"could not be started" in result.err
    assert run("echo", "a\0b").rc is None and run("echo", "x" * 300_000).rc is None


def test_half_an_answer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "MAX_OUTPUT", 1 << 20)
    result = run("head", "-c", "3000000", "/dev/zero")
    assert result.rc is None and not result.out and b"output" in result.err
    assert len(run("head", "-c", "900000", "/dev/zero").out) == 900_000


def test_a_stopped_command_meets_its_time_limit_too() -> None:
    """A frozen server's client is no better than a stopped one."""
    result = run("sh", "-c", "kill -STOP $$", timeout_s=0.3)
    assert result.timed_out and result.rc is None


def test_a_death_by_signal_is_a_negative_code() -> None:
    assert run("sh", "-c", "kill -9 $$").rc == -9


def test_the_environment_is_small_and_the_language_is_c() -> None:
    os.environ["SECRET_OF_OURS"] = "x"
    try:
        text = run("env").out.decode()
    finally:
        del os.environ["SECRET_OF_OURS"]
    assert "LC_ALL=C" in text and "SECRET_OF_OURS" not in text


async def test_one_command_at_a_time() -> None:
    runner, begin = Runner(), time.monotonic()
    await asyncio.gather(*(runner.run(Command(("sleep", "0.2"))) for _ in range(3)))
    assert time.monotonic() - begin >= 0.6


async def test_a_hung_command_ends_with_the_daemon() -> None:
    runner, begin = Runner(), time.monotonic()
    hung = asyncio.create_task(runner.run(Command(("sleep", "78.25"), timeout_s=60)))
    await asyncio.sleep(0.5)
    runner.close()
    assert (await hung).timed_out and time.monotonic() - begin < 20
