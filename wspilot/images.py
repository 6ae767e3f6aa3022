"""The site's image repository as the headnode sees it: one folder an image, with `image.json`.

A broken entry is listed with the reason and refused when asked for; it never hides the others.
Invariant: every path lies inside its image's folder, symbolic links followed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wspilot.config import Site
from wspilot.errors import WspilotError
from wspilot.text import check_name, clean

KINDS = ("kernel", "disk", "sim")
READY = ("agent", "address", "console", "process")
FORMATS = ("qcow2", "raw")
MAX_FILE = 65536
APPEND_MAX = 2000  # what a node takes


@dataclass(frozen=True)
class Image:
    """What a VM boots from. Paths are absolute and lie inside the image's folder."""

    name: str
    kind: str = "sim"
    """`kernel` (kernel and initrd), `disk`, or `sim`."""
    kernel: str = ""
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
    digest: str = ""
    """SHA-256 over the files, as the image's maker wrote it."""
    memory_mib: int = 0
    """The least memory it boots with."""
    fault: str = ""
    """Why it cannot be used; empty: it can."""

    def spec(self) -> dict[str, Any]:
        """What a node needs to start a VM from it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "kernel": self.kernel,
            "initrd": self.initrd,
            "append": self.append,
            "disk": self.disk,
            "format": self.format,
            "pattern": self.pattern,
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
    # The guest that wspilot builds names no files: they always have the same names.
    kernel = _file(place, doc, "kernel", "vmlinuz" if kind == "kernel" else "")
    disk = _file(place, doc, "disk", "root.qcow2" if kind == "disk" else "")
    return Image(
        name=name,
        kind=kind,
        kernel=kernel,
        initrd=_initrd(place, doc) if kernel else "",
        append=_line(doc, "append", "", APPEND_MAX),
        disk=disk,
        format=_one_of(doc, "format", FORMATS, "qcow2") if disk else "",
        ready=_one_of(doc, "ready", READY, "agent"),
        pattern=_line(doc, "pattern", "login:", 200) or "login:",
        digest=_line(doc, "digest", "", 80),
        memory_mib=_mib(doc),
    )


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


def _initrd(place: Path, doc: Mapping[str, Any]) -> str:
    """A kernel may have none; where none is named, `initrd` beside it is meant."""
    there = (place / "initrd").exists()
    return _file(place, doc, "initrd", "initrd" if there else "")


def _file(place: Path, doc: Mapping[str, Any], key: str, default: str) -> str:
    """The absolute path of a file in the image's folder; empty for none."""
    value = doc.get(key) or default
    if not isinstance(value, str) or len(value) > 255 or "\0" in value:
        raise ValueError(f"{key} must be the name of a file")
    if not value:
        return ""
    path = (place / value).resolve()
    if not path.is_relative_to(place.resolve()):
        raise ValueError(f"{key}: {clean(value, 80)} lies outside the image's folder")
    if not path.is_file():
        raise ValueError(f"{key}: {clean(value, 80)} is not there")
    return str(path)
