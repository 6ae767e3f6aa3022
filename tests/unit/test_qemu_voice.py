"""What a hostile guest may do with its two mouths: a little, and nothing to others."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from wspilot.node.vmm.voice import (
    BURST_LINES,
    BYTES_A_SECOND,
    LINE_LIMIT,
    BoundedLog,
    Channel,
    Pattern,
    Voice,
)


def test_the_three_words_and_nothing_else() -> None:
    voice = Voice()
    said = b"WSPILOT ready\nWSPILOT ok a b\r\nWSPILOT error \xff\x1b[2J\n"
    said += b"ready\nWSPILOT go\n\nWSPILOT re"
    assert list(voice.feed(said, 0.0)) == [("ready", ""), ("ok", "a b"), ("error", "\ufffd[2J")]
    assert list(voice.feed(b"ady x\n", 0.0)) == [("ready", "x")]
    assert voice.dropped == 3


def test_a_line_without_end_costs_no_memory_and_is_not_taken_for_one() -> None:
    voice = Voice()
    for _ in range(100):
        assert list(voice.feed(b"WSPILOT ready " * 1000, 0.0)) == []
    assert len(voice._rest) <= LINE_LIMIT
    assert list(voice.feed(b"WSPILOT ready\nWSPILOT ok\n", 0.0)) == [("ok", "")]
    long = b"WSPILOT ok " + b"x" * LINE_LIMIT + b"\nWSPILOT ok\n"
    assert list(voice.feed(long, 0.0)) == [("ok", "")]


def test_forty_lines_at_once_and_four_a_second() -> None:
    voice = Voice()
    many = b"WSPILOT ok\n" * 1000
    assert len(list(voice.feed(many, 100.0))) == BURST_LINES
    assert len(list(voice.feed(many, 100.5))) == 2
    assert len(list(voice.feed(many, 99.0))) == 0  # a clock that goes back gives nothing
    assert len(list(voice.feed(many, 10_000.0))) == BURST_LINES


def test_a_log_keeps_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "vm.log"
    log = BoundedLog(path, 100)
    for number in range(100):
        log.write(b"%09d\n" % number)
    log.close()
    log.write(b"late")
    kept = (tmp_path / "vm.log.1").read_bytes() + path.read_bytes()
    assert kept.endswith(b"000000099\n") and 100 <= len(kept) <= 200
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(one.name for one in tmp_path.iterdir()) == ["vm.log", "vm.log.1"]


def test_a_pattern_across_reads() -> None:
    pattern = Pattern("login:")
    assert not pattern.feed(b"host lo")
    assert not pattern.feed(b"g")
    assert pattern.feed(b"in: ")


async def test_a_flood_waits_in_the_guest() -> None:
    took: list[int] = []
    channel = Channel(lambda data: took.append(len(data)))
    channel.theirs.setblocking(False)
    channel.open()
    begin, sent = time.monotonic(), 0
    while time.monotonic() - begin < 0.5:
        try:
            sent += channel.theirs.send(b"x" * 65536)
        except BlockingIOError:
            await asyncio.sleep(0.005)
    spent = time.monotonic() - begin
    assert 0 < sum(took) <= BYTES_A_SECOND * spent + 2 * 16384
    channel.theirs.close()
    channel.drain()
    assert sum(took) == sent
    channel.close()
