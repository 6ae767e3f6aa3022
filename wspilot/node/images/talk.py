"""What nodes of a workspace say to each other to pass an image on: one question, one answer.

A line each way, both with a MAC made with the workspace's key over the other side's nonce, so that
neither a stranger nor a recording is answered or believed. What follows an answer to GET are the
file's bytes from the offset on, as they come; they are believed when the whole file's digest fits.
Nothing is encrypted (docs/operating.md).
"""

from __future__ import annotations

import hmac
import os
import re
import socket
from typing import Optional

from wspilot.node.values import dataclass

LINE_MAX = 400
ANSWER_S = 1.0
NONE, HAVE, SOURCE, READING = "none", "have", "source", "reading"
CANDIDATE, WAITING = "candidate", "waiting"
STATES = (NONE, HAVE, SOURCE, READING, CANDIDATE, WAITING)
_NONCE = re.compile(r"[0-9a-f]{32}")
_QUESTION = re.compile(r"(ASK|GET) ([0-9a-f]{64}) ([0-9]{1,15}) ([0-9a-f]{32}) ([0-9a-f]{64})")
_ANSWER = re.compile(r"([a-z]{1,10}) ([0-9]{1,15}) ([0-9]{1,6}) ([0-9a-f]{64})")


@dataclass(frozen=True)
class Question:
    """ASK: what have you got of it? GET: send it, from `offset` on."""

    verb: str
    sha: str
    offset: int
    nonce: str


@dataclass(frozen=True)
class Answer:
    """How a node stands with a file: its state, how many bytes it has, and how many it feeds."""

    state: str = NONE
    bytes: int = 0
    fed: int = 0


def nonce() -> str:
    """Never the same again."""
    return os.urandom(16).hex()


def question_line(key: bytes, theirs: str, one: Question) -> bytes:
    """A question, for the server that gave the nonce `theirs`."""
    text = f"{one.verb} {one.sha} {one.offset} {one.nonce}"
    return f"{text} {_mac(key, 'ask', theirs, text)}\n".encode()


def read_question(key: bytes, ours: str, line: bytes) -> Optional[Question]:
    """None when it is nothing that this workspace's nodes say."""
    match = _QUESTION.fullmatch(line.decode("ascii", "replace").rstrip("\n"))
    if match is None:
        return None
    verb, sha, offset, theirs, mac = match.groups()
    good = hmac.compare_digest(mac, _mac(key, "ask", ours, f"{verb} {sha} {offset} {theirs}"))
    return Question(verb, sha, int(offset), theirs) if good else None


def answer_line(key: bytes, theirs: str, one: Answer) -> bytes:
    """An answer, for the client that gave the nonce `theirs`."""
    text = f"{one.state} {one.bytes} {one.fed}"
    return f"{text} {_mac(key, 'answer', theirs, text)}\n".encode()


def read_answer(key: bytes, ours: str, line: bytes) -> Optional[Answer]:
    """None when it is not from a node of this workspace."""
    match = _ANSWER.fullmatch(line.decode("ascii", "replace").rstrip("\n"))
    if match is None or match[1] not in STATES:
        return None
    state, size, fed, mac = match.groups()
    good = hmac.compare_digest(mac, _mac(key, "answer", ours, f"{state} {size} {fed}"))
    return Answer(state, int(size), int(fed)) if good else None


def _mac(key: bytes, way: str, nonce: str, text: str) -> str:
    data = f"wspilot image {way}\0{nonce}\0{text}".encode()
    return hmac.new(key, data, "sha256").hexdigest()


def ask(
    where: tuple[str, int], key: bytes, verb: str, sha: str, offset: int = 0
) -> Optional[tuple[Answer, socket.socket]]:
    """The answer, and the open connection; None where no sister answers in time."""
    try:
        channel = socket.create_connection(where, ANSWER_S)
    except (OSError, ValueError):
        return None
    try:
        channel.settimeout(ANSWER_S)
        theirs = _line(channel).decode("ascii", "replace").strip()
        if not _NONCE.fullmatch(theirs):
            raise ValueError
        one = Question(verb, sha, offset, nonce())
        channel.sendall(question_line(key, theirs, one))
        answer = read_answer(key, one.nonce, _line(channel))
        if answer is None:
            raise ValueError
    except (OSError, ValueError):
        channel.close()
        return None
    return answer, channel


def _line(channel: socket.socket) -> bytes:
    """Byte by byte: what follows the line is the file. Raises OSError, ValueError."""
    line = b""
    while not line.endswith(b"\n"):
        byte = channel.recv(1)
        if not byte or len(line) > LINE_MAX:
            raise ValueError("no line")
        line += byte
    return line
