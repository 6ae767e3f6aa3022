"""Where an image's file comes from: the shared filesystem, a web server, or a host reached by ssh.

Runs in a child process of its own, which may hang and is then killed: see `transfer.py`. What comes
is believed only once its digest fits, so neither transport nor server need be trusted.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import stat
import subprocess
from collections.abc import Iterator
from typing import Any, Callable

from wspilot.errors import NotFound, UsageError, WspilotError
from wspilot.node.images.wanted import Wanted
from wspilot.text import clean

BLOCK = 1 << 20
CONNECT_S = 20.0  # and for every answer: a server that is silent for longer is given up
_SSH = re.compile(
    r"ssh://((?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*)(?::([0-9]{1,5}))?(/[ -~]+)"
)

Read = Callable[[], bytes]


@contextlib.contextmanager
def opened(file: Wanted, offset: int) -> Iterator[Read]:
    """A function that gives the bytes from `offset` on, empty at the end.

    Raises WspilotError in words, OSError.
    """
    if file.where.startswith("/"):
        with _path(file, offset) as read:
            yield read
    elif file.where.startswith(("http://", "https://")):
        with _web(file, offset) as read:
            yield read
    elif file.where.startswith("ssh://"):
        with _ssh(file, offset) as read:
            yield read
    else:
        raise UsageError(
            f"{clean(file.where, 200)} is no place to fetch an image from",
            "an absolute path, http://, https:// or ssh://host/path",
        )


@contextlib.contextmanager
def _path(file: Wanted, offset: int) -> Iterator[Read]:
    try:
        fd = os.open(file.where, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait
    except FileNotFoundError:
        raise NotFound(
            f"{clean(file.where, 300)} is not there, as seen from this node",
            "is the image repository on a filesystem that the nodes mount?",
        ) from None
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise UsageError(f"{clean(file.where, 300)} is no regular file")
        if info.st_size != file.bytes:
            raise wrong_size(file, info.st_size)
        os.lseek(fd, offset, os.SEEK_SET)
        yield lambda: os.read(fd, BLOCK)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _web(file: Wanted, offset: int) -> Iterator[Read]:
    # The one import that waits until it is needed: it costs every pilot 50 ms, it is the standard
    # library's, and this process is one that may hang.
    import urllib.error
    import urllib.request

    request = urllib.request.Request(file.where, headers={"Accept-Encoding": "identity"})
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    try:
        with urllib.request.urlopen(request, timeout=CONNECT_S) as answer:
            _length(file, offset, answer)
            if offset and answer.status != 206:
                _skip(answer, offset)
            yield lambda: bytes(answer.read(BLOCK))
    except urllib.error.HTTPError as error:
        raise WspilotError(f"{clean(file.where, 300)}: the server says {error.code}") from None
    except urllib.error.URLError as error:
        raise unreached(file.where, error.reason) from None


def unreached(where: str, why: object) -> WspilotError:
    """In words, for a server that does not answer, or that is not known to be who it says it is."""
    distrust = getattr(why, "verify_message", "")  # of ssl, which most transfers never load
    if distrust:
        return WspilotError(
            f"{clean(where, 300)}: its certificate is not trusted: {clean(str(distrust), 200)}",
            "the site's certificate belongs among those of the system (update-ca-certificates), "
            "or in the file that SSL_CERT_FILE names",
        )
    return WspilotError(f"{clean(where, 300)} cannot be reached: {clean(str(why), 200)}")


def _length(file: Wanted, offset: int, answer: Any) -> None:
    length = answer.headers.get("Content-Length", "")
    if length.isdigit():
        whole = int(length) + (offset if answer.status == 206 else 0)
        if whole != file.bytes:
            raise wrong_size(file, whole)


def _skip(answer: Any, left: int) -> None:
    """A server without ranges sends all of it again."""
    while left > 0:
        data = answer.read(min(BLOCK, left))
        if not data:
            return
        left -= len(data)


def ssh_argv(url: str, offset: int, program: str = "ssh") -> list[str]:
    """The command that prints the file; the far side's shell sees one quoted word for its path.

    Raises UsageError.
    """
    match = _SSH.fullmatch(url)
    if match is None:
        raise UsageError(f"{clean(url, 200)} is not ssh://[user@]host[:port]/path")
    host, port, path = match.groups()
    options = ("BatchMode=yes", f"ConnectTimeout={CONNECT_S:.0f}", "ServerAliveInterval=10")
    argv = [program, *(word for one in options for word in ("-o", one))]
    argv += ["-p", port] if port else []
    command = f"tail -c +{offset + 1} -- " if offset else "cat -- "
    return [*argv, "--", host, command + shlex.quote(path)]


@contextlib.contextmanager
def _ssh(file: Wanted, offset: int) -> Iterator[Read]:
    program = shutil.which("ssh", path=os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin")
    if program is None:
        raise WspilotError("ssh is not installed on this node", "apt-get install openssh-client")
    argv = ssh_argv(file.where, offset, program)
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        out, err = process.stdout.fileno(), process.stderr.fileno()
        os.set_blocking(err, False)  # a connection that ssh shares may hold it open

        def read() -> bytes:
            data = os.read(out, BLOCK)
            if not data:
                _ended_well(file, process, err)
            return data

        try:
            yield read
        finally:
            process.kill()


def _ended_well(file: Wanted, process: subprocess.Popen[bytes], err: int) -> None:
    """At the end of what came: ssh's own word comes before that too few bytes did."""
    try:
        code = process.wait(CONNECT_S)
    except subprocess.TimeoutExpired:
        raise WspilotError(f"{clean(file.where, 300)}: ssh does not end") from None
    if code:
        why = ""
        with contextlib.suppress(BlockingIOError):
            why = clean(os.read(err, 2000), 300)
        raise WspilotError(
            f"{clean(file.where, 300)}: ssh: {why or f'code {code}'}",
            "as this user, on the node, it must work without a question: ssh -o BatchMode=yes",
        )


def wrong_size(file: Wanted, size: int) -> WspilotError:
    """In words, for a source that is shorter or longer than it should be."""
    what = "is truncated: it" if size < file.bytes else "was changed: it"
    return WspilotError(
        f"{clean(file.where, 300)} {what} has {size} bytes, its repository says {file.bytes}",
        "add the image anew: wspilot images add",
    )
