"""Writing a guest's context into its own disk, for `context = "patch"`: without root, no mount.

The image in the node's cache is never written to: the VM gets a copy of it (sparse), `debugfs`
writes into that, and the VM's overlay lies above the copy. What was written is read back, for
debugfs ends with code 0 whatever happened.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Awaitable, Iterator, Sequence
from pathlib import Path
from typing import IO, Callable

from wspilot import ext4, qcow2
from wspilot.errors import UsageError, WspilotError
from wspilot.node import patch
from wspilot.node.vmm.child import Child
from wspilot.node.vmm.disks import Disk
from wspilot.node.vmm.tools import program
from wspilot.text import clean

COPY_S = 45.0  # 0.6 s for 2 GiB of which 470 MB are used, 3.5 s from a cold disk
WRITE_S = 20.0  # some 15 ms
REPLAY_S = 20.0
E2FSPROGS = ("e2fsprogs",)
MOST = 4 << 20  # bytes of anything that debugfs says or reads

# argv, limit in seconds, descriptors to keep, where stdout goes
Run = Callable[[Sequence[str], float, Sequence[int], int], Awaitable[Child]]


async def patched(run: Run, disk: Disk, entries: Sequence[patch.Entry]) -> None:
    """Make `disk.base`, a copy of `disk.copy_of` with these files in it.

    Raises WspilotError in words; the copy is then whoever's who removes the VM's files.
    """
    try:
        qcow2.virtual_size(Path(disk.copy_of), disk.copy_form)
        ext4.check(Path(disk.copy_of), disk.copy_form)
        tools = {name: program(name, (name,), E2FSPROGS) for name in ("debugfs", "e2fsck")}
        copy = os.open(disk.base, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            await _copy(run, disk)
            ext4.check(Path(disk.base), "raw")
            if not ext4.is_clean(Path(disk.base), "raw"):
                await _replay(run, tools["e2fsck"], copy)
            await _write(run, [tools["debugfs"]], copy, Path(disk.base).parent, entries)
        finally:
            os.close(copy)
    except UsageError as error:
        raise UsageError(f"its image's {disk.serial} {error.message}", error.hint) from None


async def _copy(run: Run, disk: Disk) -> None:
    argv = [program("qemu-img", ("qemu-img",)), "convert", "-q", "-f", disk.copy_form]
    done = await run([*argv, "-O", "raw", "--", disk.copy_of, disk.base], COPY_S, (), -1)
    if done.returncode:
        why = clean(done.stderr, 300) or f"code {done.returncode}"
        raise WspilotError(f"its image's {disk.serial} cannot be copied: qemu-img: {why}")


async def _replay(run: Run, e2fsck: str, copy: int) -> None:
    """An image of a guest that was running when it was made: its journal first."""
    done = await run([e2fsck, "-p", _fd(copy)], REPLAY_S, (copy,), -1)
    if done.returncode not in (0, 1):
        raise UsageError(
            "was not unmounted cleanly, and e2fsck cannot mend it by itself",
            "stop a guest before its disk is saved; or e2fsck -f, on a machine of your own",
        )


async def _write(
    run: Run, debugfs: list[str], copy: int, place: Path, entries: Sequence[patch.Entry]
) -> None:
    with contextlib.ExitStack() as stack:

        def holder(data: bytes = b"", mode: int = 0o600) -> IO[bytes]:
            return stack.enter_context(_holder(place, data, mode))

        async def told(
            script: str, writes: Sequence[str], keep: Sequence[IO[bytes]]
        ) -> tuple[patch.Seen, bytes]:
            """What debugfs shows, and what it complains about."""
            lines, out = holder(script.encode()), holder()
            fds = [copy, lines.fileno(), *(one.fileno() for one in keep)]
            argv = [*debugfs, *writes, "-f", _fd(lines.fileno()), _fd(copy)]
            done = await run(argv, WRITE_S, fds, out.fileno())
            return patch.seen(_all(out).decode("utf-8", "replace")), done.stderr

        known, _ = await told(patch.look(entries), (), ())
        keys = holder()
        if script := patch.own_keys(known, keys.fileno()):
            await told(script, (), [keys])
        entries = patch.with_keys(entries, _all(keys))
        sources = [holder(one.data, one.mode) for one in entries]
        back = [holder() for _ in entries]
        numbers = [one.fileno() for one in sources], [one.fileno() for one in back]
        script = patch.write(entries, known, *numbers)
        after, complaints = await told(script, ("-w",), [*sources, *back])
        wrong = patch.wrong(entries, after, [_all(one) for one in back])
        if wrong:
            raise WspilotError(
                f"{wrong} could not be written into its disk: debugfs: {clean(complaints, 300)}",
                "is there room on its filesystem?",
            )


@contextlib.contextmanager
def _holder(place: Path, data: bytes, mode: int) -> Iterator[IO[bytes]]:
    """A file without a name, which another process reaches by its descriptor."""
    with tempfile.TemporaryFile(dir=place) as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), mode)
        yield file


def _all(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(MOST)


def _fd(number: int) -> str:
    """Not the copy's path: libext2fs takes what follows a `?` in a name as options."""
    return f"/proc/self/fd/{number}"
