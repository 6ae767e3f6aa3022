"""The live channel against strangers, slow visitors, floods, and VMs and pilots that end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest

from tests.unit.node.livehost import KEY, PILOT, SOON_S, Visitor, yard
from wspilot import channel
from wspilot.node import live as live_module
from wspilot.node.live import Live
from wspilot.node.live.address import addresses, own_address_in
from wspilot.node.live.services import MOST_VISITORS
from wspilot.node.vmm.console import PAST, Console

HANG_S = 20.0


async def ended(one: Visitor) -> bool:
    """Nothing more comes, and nothing but the greeting ever came."""
    try:
        left = await asyncio.wait_for(one.reader.read(1 << 16), HANG_S)
    except ConnectionError:
        return True
    return left == b""


async def test_the_hint_makes_the_pilot_look() -> None:
    async with yard() as place:
        assert await (await place.visitor()).ask(do="look") == {}
        assert place.host.looked == 1


async def test_a_wrong_key_another_pilot_and_no_key_at_all_get_one_line() -> None:
    async with yard() as place:
        for key, pilot in ((bytes(32), PILOT), (KEY, PILOT[::-1])):
            with pytest.raises((channel.BadChannel, ConnectionError)):
                await (await place.stranger()).prove(key, pilot)
        for words in (b"x" * 5000, b"\n", b"HELLO\n", b"HELLO " + b"0" * 32 + b" " + b"0" * 64):
            one = await place.stranger()
            channel.read_greeting(await one.reader.readline())
            one.writer.write(words + b"\n")
            assert await ended(one), words
        assert place.host.looked == 0
        await place.visitor()  # the negative control


async def test_a_replayed_handshake_opens_nothing() -> None:
    """A recording of a whole visit, played again byte by byte."""
    async with yard() as place:
        one = await place.stranger()
        server = channel.read_greeting(await one.reader.readline())
        parley = channel.Parley(KEY, PILOT, server, channel.nonce())
        said = parley.hello() + parley.sealer(server=False).words(channel.ASK, {"do": "look"})
        one.writer.write(said)
        parley.check_welcome(await one.reader.readline())
        await one.reader.read(1)
        assert place.host.looked == 1
        again = await place.stranger()
        await again.reader.readline()
        again.writer.write(said)
        assert await ended(again)
        assert place.host.looked == 1


async def test_strangers_who_say_nothing_or_half_a_line_are_gone_after_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_module, "PROVE_S", 0.3)
    async with yard() as place:
        silent, half, closed = [await place.stranger() for _ in range(3)]
        for one in (silent, half, closed):
            await one.reader.readline()
        half.writer.write(b"HELLO 00")
        closed.writer.write_eof()
        for one in (closed, silent, half):
            assert await ended(one)
        visitor = await place.visitor()
        await asyncio.sleep(0.5)  # the limit is the proof's, not the visit's
        assert await visitor.ask(do="look") == {}


async def test_a_thousand_silent_connections_do_not_keep_out_whoever_has_the_key() -> None:
    async with yard() as place:
        held: list[socket.socket] = []
        try:
            late = asyncio.ensure_future(lateness())
            for number in range(1000):
                one = socket.socket()
                one.setblocking(False)
                held.append(one)
                with contextlib.suppress(BlockingIOError):
                    one.connect(place.where)
                if number % 100 == 50:
                    visitor = await asyncio.wait_for(place.visitor(), HANG_S)
                    assert await visitor.ask(do="look") == {}
            assert not late.done() or late.result() is None
            late.cancel()
            assert place.host.looked == 10
            assert len(place.live._strangers) <= live_module.MOST_STRANGERS
        finally:
            for one in held:
                one.close()


async def lateness() -> None:
    """The loop of a pilot that is being stormed goes on: no turn of it is a long one."""
    while True:
        began = time.process_time()
        await asyncio.sleep(0.01)
        assert time.process_time() - began < 1.0


async def test_a_console_begins_with_what_was_said_lately_and_goes_on() -> None:
    async with yard() as place:
        console = place.host.add("v1")
        console.write(b"x" * 3 * PAST + b"login: ")
        one = await place.visitor()
        assert await one.ask(do="console", vm="v1") == {"others": 0}
        assert len(await one.until(b"login: ")) == PAST
        one.say(channel.DATA, b"root\r")
        console.write(b"# ")
        await one.until(b"# ")
        two = await place.visitor()
        assert await two.ask(do="console", vm="v1") == {"others": 1}
        two.say(channel.DATA, b"ls\r")
        console.write(b"all see this")
        for each in (one, two):
            await each.until(b"all see this")
        assert place.host.typed == b"root\rls\r"
        unknown = await place.visitor()
        assert "not on this node" in (await unknown.ask(do="console", vm="v2"))["error"]


async def test_a_console_is_over_with_its_vm_and_says_so_after_the_last_words() -> None:
    async with yard() as place:
        console = place.host.add("v1")
        one = await place.console("v1")
        console.write(b"Power down\r\n")
        console.close()
        assert await one.rest() == [
            (channel.DATA, b"Power down\r\n"),
            (channel.OVER, b"the VM has ended"),
            (channel.OVER, b""),
        ]


async def test_the_pilots_end_is_told() -> None:
    async with yard() as place:
        place.host.add("v1")
        one = await place.console("v1")
        await place.live.close()
        assert await one.rest() == [(channel.OVER, b"the pilot ends")]
        with pytest.raises(ConnectionRefusedError):
            await place.stranger()


async def test_who_does_not_read_loses_output_and_holds_up_nobody() -> None:
    async with yard() as place:
        console = place.host.add("v1")
        slow, quick = await place.console("v1"), await place.console("v1")
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        line = b"\x1b[31m" + b"flood" * 1000 + b"\r\n"
        for number in range(4000):  # 20 MB
            console.write(line)
            if number % 10 == 9:
                await asyncio.sleep(0)
                while quick.frames:
                    quick.frames.pop()
        console.write(b"THE END")
        await quick.until(b"THE END")
        task = next(iter(place.live._visits))
        assert not task.done()
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        seen = await slow.until(b"THE END")
        assert b"bytes were lost: this reader is too slow" in seen
        assert len(seen) < 20_000_000


async def test_a_guest_that_does_not_read_costs_who_types_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wspilot.node.vmm.console.PATIENCE_S", 0.2)
    monkeypatch.setattr(Console.type, "__defaults__", (0.2,))
    async with yard() as place:
        console = place.host.add("v1")
        place.host.deaf = True
        one, other = await place.console("v1"), await place.console("v1")
        one.say(channel.DATA, b"x" * 50000)
        console.write(b"still here")
        await other.until(b"still here")
        await one.until(b"does not read its console")
        place.host.deaf = False
        one.say(channel.DATA, b"now")
        await asyncio.sleep(0.1)
        assert place.host.typed == b"now"


async def test_a_port_is_led_to_both_ways_with_half_closes() -> None:
    async with yard() as place:
        place.host.add("v1")
        one = await place.visitor()
        assert await one.ask(do="forward", vm="v1", port=22) == {}
        one.say(channel.DATA, b"hello")
        assert await one.next() == (channel.DATA, b"hello")
        one.say(channel.END)
        assert await one.next() == (channel.DATA, b"bye")
        assert await one.next() == (channel.END, b"")
        await one.rest()
        await asyncio.wait_for(place.host.left.wait(), SOON_S)


async def test_the_door_is_shut_when_the_visitor_vanishes() -> None:
    async with yard() as place:
        place.host.add("v1")
        one = await place.visitor()
        await one.ask(do="forward", vm="v1", port=22)
        one.writer.transport.abort()
        await asyncio.wait_for(place.host.left.wait(), SOON_S)
        await asyncio.sleep(0.01)
        assert not place.live._visits


@pytest.mark.parametrize("port", [23, 0, -1, "22", None, 22.5, 1 << 40])
async def test_a_port_that_the_site_does_not_allow_is_refused(port: object) -> None:
    async with yard() as place:
        place.host.add("v1")
        one = await place.visitor()
        answer = await one.ask(do="forward", vm="v1", port=port)
        assert "allowed: 22" in answer["error"]


async def test_wishes_that_make_no_sense_are_answered_or_end_the_visit() -> None:
    async with yard() as place:
        for wish in ({"do": "shutdown"}, {}, {"do": ["console"]}):
            assert "no service" in (await (await place.visitor()).ask(**wish))["error"]
        assert (await (await place.visitor()).ask(do="forward", vm="v9", port=22))["error"]
        for raw in (b"not json", b"[1]", b"{" * 10000):
            one = await place.visitor()
            one.say(channel.ASK, raw)
            assert await one.rest() in ([], [(channel.OVER, b"")])


async def test_there_is_room_for_so_many_visitors() -> None:
    async with yard() as place:
        place.host.add("v1")
        for _ in range(MOST_VISITORS):
            await place.console("v1")
        one = await place.visitor()
        kind, payload = await one.next()
        assert kind == channel.SAID and b"others are connected" in payload


async def test_a_range_of_ports_is_kept_to_and_an_address_of_the_sites_network_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        settings = {"network": "127.0.0.0/8", "ports": [port, port + 3]}
        one = Live(settings, KEY, PILOT, None)  # type: ignore[arg-type]
        assert one.facts()["live"]["host"] == "127.0.0.1"
        assert port < one.facts()["live"]["port"] <= port + 3
        await one.close()
        full = Live({**settings, "ports": [port, port]}, KEY, PILOT, None)  # type: ignore[arg-type]
        assert full.facts() == {}
    assert "127.0.0.1" in list(addresses())
    assert own_address_in("127.0.0.0/8") == "127.0.0.1"
    nowhere = Live({"network": "203.0.113.0/30"}, KEY, PILOT, None)  # type: ignore[arg-type]
    assert nowhere.facts() == {}
    assert Live({}, KEY, PILOT, None).facts() == {}  # type: ignore[arg-type]
