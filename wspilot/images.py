"""The site's image repository as the headnode sees it: one folder an image, with `image.json`.

A broken entry is listed with the reason and refused when asked for; it never hides the others.
Invariant: every path lies inside its image's folder, symbolic links followed; every file that a
node is sent for has its size and SHA-256; no qcow2 among them names another file of the host.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wspilot import ext4
from wspilot.config import Site
from wspilot.errors import UsageError, WspilotError
from wspilot.imagefiles import FORMATS, File, Folder, blanks, partitions, together
from wspilot.model import READY
from wspilot.text import check_name, clean

KINDS = ("kernel", "disk", "sim")
CONTEXTS = ("agent", "cloud-init", "patch", "none")
MAX_FILE = 65536
APPEND_MAX = 2000  # what a node takes
KEYS = ("name", "kind", "kernel", "initrd", "append", "disk", "format", "partitions", "blank",
        "ready", "pattern", "context", "console", "digest", "memory_mib", "sizes", "sha256",
        "urls")  # fmt: skip


@dataclass(frozen=True)
class Image:
    """What a VM boots from. Paths are absolute and lie inside the image's folder."""

    name: str
    kind: str = "sim"
    """`kernel` (kernel and initrd from outside the image), `disk`, or `sim`."""
    kernel: str = ""
    """Path or URL, like `initrd` and `disk`."""
    initrd: str = ""
    append: str = ""
    """Kernel command line."""
    disk: str = ""
    format: str = ""
    """`qcow2` or `raw`."""
    ready: str = "agent"
    """How the guest shows that it is up: `agent`, `address`, `console` or `process`."""
    pattern: str = "login:"
    """What `console` waits for."""
    context: str = "agent"
    """How the guest learns who it is: `agent`, `cloud-init`, `patch` or `none`."""
    console: str = "ttyS0"
    """The guest's console device."""
    digest: str = ""
    """SHA-256 that stands for all files."""
    memory_mib: int = 0
    """The least memory it boots with."""
    partitions: tuple[Mapping[str, Any], ...] = ()
    """Cached partitions, each a disk of its own after `disk`: {format, role}."""
    blank: tuple[Mapping[str, Any], ...] = ()
    """Empty disks that the node makes, after those: {size_mib, fs, label}."""
    files: Mapping[str, File] = field(default_factory=dict)
    """By role: kernel, initrd, disk, part0, part1, ..."""
    fault: str = ""
    """Why it cannot be used; empty: it can."""

    def spec(self) -> dict[str, Any]:
        """What a node needs to start a VM from it; `files` are brought there first."""
        keys = ("name", "kind", "kernel", "initrd", "append", "disk", "format", "pattern",
                "context", "console", "digest")  # fmt: skip
        return {
            **{key: getattr(self, key) for key in keys},
            "partitions": [dict(one) for one in self.partitions],
            "blank": [dict(one) for one in self.blank],
            "files": {role: file.spec() for role, file in self.files.items()},
        }


def load_images(directory: Path, site: Site) -> Mapping[str, Image]:
    """Every image by name. VMM `sim` has `small` and `default` built in. Never raises."""
    found: dict[str, Image] = {}
    if site.vmm == "sim":
        found = {name: Image(name) for name in ("default", "small")}
    try:
        entries = sorted(directory.iterdir())
    except OSError:
        return found
    for place in entries:
        if not place.name.startswith(".") and place.is_dir():
            try:
                image = _read(place, site.vmm)
            except OSError as error:
                image = _broken(place, f"image.json: {error.strerror or type(error).__name__}")
            except WspilotError as error:
                image = _broken(place, error.message)
            except (ValueError, RecursionError) as error:
                image = _broken(place, f"image.json: {error}")
            found[image.name] = image
    return found


def _broken(place: Path, fault: str) -> Image:
    return Image(clean(place.name, 32) or "?", fault=clean(fault, 200))


def _read(place: Path, vmm: str) -> Image:
    """Raises OSError, ValueError (a message for people) or WspilotError."""
    name = check_name(place.name, "folder")
    file = place / "image.json"
    if not file.is_file():  # a pipe would be waited for
        raise ValueError("is not there")
    if file.stat().st_size > MAX_FILE:
        raise ValueError(f"is larger than {MAX_FILE} bytes")
    doc = json.loads(file.read_text("utf-8"))
    if not isinstance(doc, dict):
        raise ValueError("is not one object")
    if doc.get("name", name) != name:
        raise ValueError(f"name: {clean(str(doc['name'])[:80], 40)} is not the folder's")
    kind = _one_of(doc, "kind", KINDS, None)
    if kind == "sim" and vmm != "sim":
        raise ValueError(f"kind sim needs vmm sim, not {vmm}")
    files, form, parts = _files(place, doc, kind)
    where = {role: file.where for role, file in files.items()}
    context = _one_of(doc, "context", CONTEXTS, "agent")
    if context == "patch" and kind != "sim":
        _patchable(files, form, parts)
    return Image(
        name=name,
        kind=kind,
        kernel=where.get("kernel", ""),
        initrd=where.get("initrd", ""),
        append=_line(doc, "append", "", APPEND_MAX),
        disk=where.get("disk", ""),
        format=form,
        ready=_one_of(doc, "ready", READY, "agent"),
        pattern=_line(doc, "pattern", "login:", 200) or "login:",
        context=context,
        console=_line(doc, "console", "ttyS0", 32) or "ttyS0",
        digest=_line(doc, "digest", "", 80) or together(files),
        memory_mib=_mib(doc),
        partitions=parts,
        blank=blanks(doc),
        files=files,
    )


def _files(
    place: Path, doc: Mapping[str, Any], kind: str
) -> tuple[dict[str, File], str, tuple[Mapping[str, Any], ...]]:
    """Files by role, the disk's format, and what is said of the partitions.

    The guest that wspilot builds names no files: they always have the same names.
    """
    folder, form = Folder(place, doc), ""
    files: dict[str, File] = {}
    kernel = doc.get("kernel") or ("vmlinuz" if kind == "kernel" else "")
    # A kernel may have no initrd; where none is named, `initrd` beside it is meant.
    beside = "initrd" if kernel and (place / "initrd").exists() else ""
    disk = doc.get("disk") or ("root.qcow2" if kind == "disk" and not doc.get("partitions") else "")
    if kernel:
        files["kernel"] = folder.file("kernel", kernel)
    if kernel and (doc.get("initrd") or beside):
        files["initrd"] = folder.file("initrd", doc.get("initrd") or beside)
    if disk:
        form = _one_of(doc, "format", FORMATS, "qcow2")
        files["disk"] = folder.file("disk", disk, form)
    parts = []
    for n, (role, part_form, file) in enumerate(partitions(folder, doc)):
        files[f"part{n}"] = file
        parts.append({"format": part_form, "role": role})
    return files, form, tuple(parts)


def _patchable(files: Mapping[str, File], form: str, parts: tuple[Mapping[str, Any], ...]) -> None:
    """Can a node write into its root filesystem (`vmm/disks.py` says which that is)? What lies
    elsewhere is looked at there. Raises ValueError."""
    role = "disk"
    if role not in files and parts:
        number = next((n for n, one in enumerate(parts) if one["role"] == "/"), 0)
        role, form = f"part{number}", str(parts[number]["format"])
    if role not in files:
        raise ValueError("context patch needs a disk or a partition to write into")
    if files[role].where.startswith("/"):
        try:
            ext4.check(Path(files[role].where), form)
        except UsageError as error:
            name = clean(files[role].name, 80)
            raise ValueError(f"context patch: {name} {error.message} ({error.hint})") from None


def _one_of(doc: Mapping[str, Any], key: str, choices: tuple[str, ...], default: str | None) -> str:
    value = doc.get(key, default)
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{key} must be one of {', '.join(choices)}")
    return value


def _line(doc: Mapping[str, Any], key: str, default: str, most: int) -> str:
    value = doc.get(key, default)
    if not isinstance(value, str) or len(value) > most or clean(value, most) != value.strip():
        raise ValueError(f"{key} must be one line of at most {most} characters")
    return value.strip()


def _mib(doc: Mapping[str, Any]) -> int:
    value = doc.get("memory_mib", 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 40:
        raise ValueError("memory_mib must be a number of MiB")
    return value
