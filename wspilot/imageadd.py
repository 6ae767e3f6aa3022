"""Putting an image into the site's repository: what `wspilot images add` does.

A person on the headnode runs this, beside the daemon. Invariant: the image's folder appears whole,
by one rename, image.json and all digests in it; what fails leaves nothing; no image is replaced.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wspilot import qcow2
from wspilot.errors import NotFound, Refused, UsageError, WspilotError
from wspilot.imagefiles import BLOCK, FILESYSTEMS, FORMATS, is_url, synced
from wspilot.images import CONTEXTS, load_images
from wspilot.model import READY
from wspilot.settings import Site
from wspilot.text import check_name, clean, parse_size

DOWNLOAD_S = 30.0  # for each answer of a server
NAMES = {"kernel": "vmlinuz", "initrd": "initrd"}
_WORD = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,31}")

Progress = Callable[[str, int, int], None]  # what, bytes done, bytes in all (0: unknown)


@dataclass(frozen=True)
class Wish:
    """What the command line says. Files are paths, or http(s) and ssh URLs."""

    name: str
    disk: str = ""
    format: str = ""
    """`qcow2` or `raw`; empty: by the file's first bytes."""
    kernel: str = ""
    initrd: str = ""
    append: str = ""
    partitions: tuple[str, ...] = ()
    """`FILE` or `FILE:ROLE`."""
    blank: tuple[str, ...] = ()
    """`SIZE`, `SIZE:FS` or `SIZE:FS:LABEL`."""
    link: bool = False
    """Leave what has a URL where it is: nodes fetch it from there."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """ready, pattern, context, console, memory_mib; those that were said."""


def add(site: Site, wish: Wish, progress: Progress) -> Mapping[str, Any]:
    """The new image's image.json. Raises UsageError, Refused, NotFound, WspilotError, OSError."""
    check_name(wish.name, "image")
    _check(wish)
    place = site.images_dir / wish.name
    if os.path.lexists(place):
        raise Refused(f"an image {wish.name} exists already: {place}", "choose another name")
    site.images_dir.mkdir(parents=True, exist_ok=True)
    draft = site.images_dir / f".{wish.name}.{secrets.token_hex(4)}.new"
    draft.mkdir(mode=0o755)
    try:
        doc = _fill(draft, wish, progress)
        _proved(draft, site, wish.name, doc)
        synced(draft)
        try:
            draft.rename(place)
        except OSError:
            raise Refused(f"an image {wish.name} was made meanwhile", "choose another") from None
        synced(site.images_dir)
    except BaseException:  # also Ctrl-C
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return doc


def _check(wish: Wish) -> None:
    """All that can be wrong before a byte is copied."""
    if not wish.disk and not wish.kernel and not wish.partitions:
        raise UsageError("an image needs a disk, a kernel or partitions", "wspilot images add -h")
    if (wish.initrd or wish.append) and not wish.kernel:
        raise UsageError("--initrd and --append need a --kernel")
    if not wish.kernel and not wish.disk:
        raise UsageError("partitions alone have no boot loader: give a --kernel")
    for key, known in (("ready", READY), ("context", CONTEXTS)):
        if wish.more.get(key, known[0]) not in known:
            raise UsageError(f"--{key}: one of {', '.join(known)}")
    if wish.format and wish.format not in FORMATS:
        raise UsageError(f"--format: one of {', '.join(FORMATS)}", "others: qemu-img convert")
    for source in (wish.disk, wish.kernel, wish.initrd):
        _readable(source)
    for text in wish.partitions:
        _readable(_split(text)[0])
    for text in wish.blank:
        _blank(text)


def _readable(source: str) -> None:
    if not source or is_url(source):
        return
    if "://" in source:
        raise UsageError(f"{clean(source, 200)} is no URL that can be fetched", "http(s) or ssh")
    path = Path(source)
    if "\n" in source or "\0" in source:
        raise UsageError(f"{clean(source, 200)} is no file's name")
    if not path.exists():
        raise NotFound(f"{clean(source, 300)} is not there")
    if not path.is_file():
        raise UsageError(f"{clean(source, 300)} is no regular file")


def _split(text: str) -> tuple[str, str]:
    """FILE and ROLE of `FILE:ROLE`; a URL's own colons are its own."""
    head, colon, tail = text.rpartition(":")
    if colon and head and "/" not in tail.lstrip("/") and not head.endswith(("http", "https")):
        return head, tail
    return text, ""


def _blank(text: str) -> dict[str, str]:
    size, _, rest = text.partition(":")
    fs, _, label = rest.partition(":")
    parse_size(size, "--blank")
    if (fs or "none") not in FILESYSTEMS or (label and not _WORD.fullmatch(label)):
        raise UsageError(f"--blank {clean(text, 80)}: SIZE[:FS[:LABEL]], FS one of "
                         + ", ".join(FILESYSTEMS))  # fmt: skip
    return {"size": size, "fs": fs or "none", **({"label": label} if label else {})}


def _fill(draft: Path, wish: Wish, progress: Progress) -> dict[str, Any]:
    doc: dict[str, Any] = {"schema": 1, "name": wish.name}
    doc["kind"] = "kernel" if wish.kernel else "disk"
    into = _Into(draft, wish.link, progress)
    for key in ("kernel", "initrd"):
        if source := getattr(wish, key):
            doc[key] = into.take(source, NAMES[key])
    if wish.append:
        doc["append"] = wish.append
    if wish.disk:
        doc["format"] = wish.format
        doc["disk"], doc["format"] = into.disk(wish.disk, "root", wish.format)
    parts = []
    for n, text in enumerate(wish.partitions):
        source, role = _split(text)
        name, form = into.disk(source, f"part{n}", "")
        parts.append({"file": name, "format": form, **({"role": role} if role else {})})
    doc.update({"partitions": parts} if parts else {})
    doc.update({"blank": [_blank(text) for text in wish.blank]} if wish.blank else {})
    doc.update(wish.more)
    doc.update(sizes=into.sizes, sha256=into.sums, **({"urls": into.urls} if into.urls else {}))
    with open(draft / "image.json", "x") as file:
        file.write(json.dumps(doc, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return doc


def _proved(draft: Path, site: Site, name: str, doc: Mapping[str, Any]) -> None:
    """It is read as the daemon will read it, so that nothing is added that is refused later."""
    stage = draft / ".stage"
    stage.mkdir()
    (stage / name).symlink_to(draft, target_is_directory=True)
    fault = load_images(stage, site)[name].fault
    (stage / name).unlink()
    stage.rmdir()
    if fault:
        raise UsageError(f"{name}: {fault}", "nothing was added")


class _Into:
    """A draft folder that files are copied into, hashed on their way."""

    def __init__(self, draft: Path, link: bool, progress: Progress) -> None:
        self._draft, self._link, self._progress = draft, link, progress
        self.sizes: dict[str, int] = {}
        self.sums: dict[str, str] = {}
        self.urls: dict[str, str] = {}

    def disk(self, source: str, stem: str, form: str) -> tuple[str, str]:
        """The name and format of a disk, looked at before any tool sees it."""
        name = self.take(source, stem, keep=True)
        path = self._draft / name
        try:
            form = form or qcow2.guess(path)
            qcow2.virtual_size(path, form)
            if form == "qcow2":
                qcow2.check_whole(path)
        except UsageError as error:
            raise UsageError(f"{clean(source, 200)} {error.message}", error.hint) from None
        final = f"{stem}.{'qcow2' if form == 'qcow2' else 'img'}"
        path.rename(self._draft / final)
        self.sizes[final], self.sums[final] = self.sizes.pop(name), self.sums.pop(name)
        if name in self.urls:
            self.urls[final] = self.urls.pop(name)
        if final in self.urls:
            (self._draft / final).unlink()
        return final, form

    def take(self, source: str, name: str, keep: bool = False) -> str:
        """Copy one file under `name`; with `link` a URL's content is only hashed."""
        target = self._draft / name
        total = hashlib.sha256()
        with open(target, "xb") as out:
            for data in _content(source, lambda done, of: self._progress(name, done, of)):
                total.update(data)
                out.write(data)
            out.flush()
            os.fsync(out.fileno())
        target.chmod(0o644)
        self.sizes[name], self.sums[name] = target.stat().st_size, total.hexdigest()
        if self._link and is_url(source):
            self.urls[name] = source
            if not keep:
                target.unlink()
        return name


def _content(source: str, progress: Callable[[int, int], None]) -> Any:
    """The bytes of a file or a URL, with word on how far it is. Raises WspilotError, OSError."""
    import urllib.error
    import urllib.request

    from wspilot.node.images.source import unreached

    if source.startswith("ssh://"):
        yield from _by_ssh(source, progress)
        return
    done = 0
    try:
        if is_url(source):
            file: Any = urllib.request.urlopen(source, timeout=DOWNLOAD_S)
            length = file.headers.get("Content-Length") or "0"
            size = int(length) if length.isdigit() else 0
        else:
            file = open(source, "rb", buffering=0)  # noqa: SIM115 (closed below, like the other)
            size = Path(source).stat().st_size
        with file:
            while data := file.read(BLOCK):
                yield data
                done += len(data)
                progress(done, size)
    except urllib.error.HTTPError as error:
        raise WspilotError(f"{clean(source, 200)}: the server says {error.code}") from None
    except urllib.error.URLError as error:
        raise unreached(source, error.reason) from None
    if size and done != size:
        raise WspilotError(f"{clean(source, 200)} is truncated: {done} of {size} bytes came")


def _by_ssh(source: str, progress: Callable[[int, int], None]) -> Iterator[bytes]:
    """As a node would fetch it, without a password: ssh's exit code tells whether it is whole."""
    from wspilot.node.images.source import ssh_argv

    program = shutil.which("ssh")
    if program is None:
        raise WspilotError("there is no ssh here", "install one: openssh-client")
    done = 0
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            ssh_argv(source, 0, program),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None
        try:
            while data := process.stdout.read(BLOCK):
                yield data
                done += len(data)
                progress(done, 0)
            code = process.wait(DOWNLOAD_S)
        finally:
            process.kill()
        if code:
            errors.seek(0)
            why = clean(errors.read(2000), 300) or f"code {code}"
            raise WspilotError(f"{clean(source, 200)}: ssh: {why}")
