"""The live channel's wire format: what opens it, and everything that does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wspilot import channel

KEY, OTHER = bytes(range(32)), bytes(32)
PILOT = "0645efec-1be7-4079-86c7-980ca1f19f2b"


def parley(key: bytes = KEY, pilot: str = PILOT) -> channel.Parley:
    return channel.Parley(key, pilot, "a" * 32, "b" * 32)


def test_both_sides_prove_the_key() -> None:
    server = channel.nonce()
    client = channel.Parley(
        KEY, PILOT, channel.read_greeting(channel.greeting(server)), channel.nonce()
    )
    assert len(client.hello()) == channel.HELLO
    met = channel.read_hello(KEY, PILOT, server, client.hello())
    client.check_welcome(met.welcome())
    out, into = met.sealer(server=True), client.opener(server=False)
    assert into.feed(out.seal(channel.DATA, b"one") + out.seal(channel.END)) == [
        (channel.DATA, b"one"),
        (channel.END, b""),
    ]


@pytest.mark.parametrize(
    ("key", "pilot", "server"),
    [(OTHER, PILOT, "a" * 32), (KEY, PILOT[::-1], "a" * 32), (KEY, PILOT, "c" * 32)],
    ids=["another key", "another pilot of the slot", "a recording: the nonce is another"],
)
def test_a_hello_that_was_made_for_something_else_is_refused(
    key: bytes, pilot: str, server: str
) -> None:
    hello = parley().hello()
    assert channel.read_hello(KEY, PILOT, "a" * 32, hello)
    with pytest.raises(channel.BadChannel):
        channel.read_hello(key, pilot, server, hello)


def test_who_does_not_hold_the_key_is_not_taken_for_the_pilot() -> None:
    with pytest.raises(channel.BadChannel):
        parley().check_welcome(parley(OTHER).welcome())
    with pytest.raises(channel.BadChannel):  # a reflection of our own proof
        parley().check_welcome(parley().hello().replace(b"HELLO", b"WELCOME"))


def test_another_version_is_named() -> None:
    with pytest.raises(channel.BadChannel, match="version 2"):
        channel.read_greeting(b"WSPILOT-LIVE 2 " + b"a" * 32 + b"\n")


@pytest.mark.parametrize("change", range(channel.HEAD.size + 3 + channel.MAC))
def test_a_frame_with_one_other_bit_ends_the_channel(change: int) -> None:
    frame = bytearray(parley().sealer(server=True).seal(channel.DATA, b"one"))
    frame[change] ^= 1
    opener = parley().opener(server=False)
    found: list[tuple[int, bytes]] = []
    try:
        # A longer length makes it wait for more; that then cannot be right either.
        found = opener.feed(bytes(frame)) + opener.feed(bytes(1 << 17))
    except channel.BadChannel:
        return
    pytest.fail(f"it was taken: {found}")


def test_frames_repeated_left_out_exchanged_or_reflected_end_the_channel() -> None:
    sealer = parley().sealer(server=True)
    one, two = sealer.seal(channel.DATA, b"one"), sealer.seal(channel.DATA, b"two")
    for wrong in (one + one, two, two + one):
        with pytest.raises(channel.BadChannel):
            parley().opener(server=False).feed(wrong)
    with pytest.raises(channel.BadChannel):
        parley().opener(server=True).feed(one)  # what the server said, sent back to it


def test_a_frame_that_says_it_is_huge_is_not_waited_for() -> None:
    with pytest.raises(channel.BadChannel):
        parley().opener(server=False).feed(channel.HEAD.pack(channel.MOST + 1, channel.DATA))


@given(st.lists(st.binary(max_size=200), max_size=5), st.integers(1, 50))
def test_frames_come_out_whole_however_they_were_cut(texts: list[bytes], step: int) -> None:
    sealer, opener = parley().sealer(server=False), parley().opener(server=True)
    raw = b"".join(sealer.seal(channel.DATA, text) for text in texts)
    found = [frame for at in range(0, len(raw), step) for frame in opener.feed(raw[at : at + step])]
    assert found == [(channel.DATA, text) for text in texts]


@given(st.binary(max_size=200))
def test_no_bytes_of_a_stranger_raise_anything_else(data: bytes) -> None:
    for read in (
        lambda: channel.read_greeting(data),
        lambda: channel.read_hello(KEY, PILOT, "a" * 32, data),
        lambda: parley().check_welcome(data),
        lambda: parley().opener(server=True).feed(data),
        lambda: channel.words(data),
    ):
        try:
            read()
        except channel.BadChannel:
            pass
