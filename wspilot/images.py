"""The site's image repository as the headnode sees it: one folder an image, with `image.json`.

A broken entry is listed with the reason and refused when asked for; it never hides the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wspilot.config import Site
from wspilot.errors import UsageError
from wspilot.text import check_name, clean

KINDS = ("kernel", "disk", "sim")
READY = ("agent", "address", "console", "process")


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
    """Every image by name. VMM `sim` has `small` and `default` built in."""
    found: dict[str, Image] = {}
    if site.vmm == "sim":
        found = {name: Image(name) for name in ("default", "small")}
    try:
        entries = sorted(directory.iterdir())
    except OSError:
        return found
    for place in entries:
        if place.is_dir() and not place.name.startswith("."):
            try:
                image = _read(place)
            except (OSError, ValueError, UsageError) as error:
                image = Image(clean(place.name, 32), fault=clean(f"image.json: {error}", 200))
            found[image.name] = image
    return found


def _read(place: Path) -> Image:
    doc = json.loads((place / "image.json").read_text("utf-8"))
    if not isinstance(doc, dict) or doc.get("kind") not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}")
    if doc.get("ready", "agent") not in READY:
        raise ValueError(f"ready must be one of {', '.join(READY)}")
    return Image(
        name=check_name(place.name, "name"),
        kind=doc["kind"],
        kernel=_inside(place, doc.get("kernel")),
        initrd=_inside(place, doc.get("initrd")),
        append=clean(str(doc.get("append", "")), 1000),
        disk=_inside(place, doc.get("disk")),
        format=str(doc.get("format", "qcow2" if doc.get("disk") else "")),
        ready=doc.get("ready", "agent"),
        pattern=clean(str(doc.get("pattern", "login:")), 200),
        digest=clean(str(doc.get("digest", "")), 80),
        memory_mib=int(doc.get("memory_mib", 0)),
    )


def _inside(place: Path, name: object) -> str:
    """An absolute path of a file in the image's folder; empty for none."""
    if not name:
        return ""
    path = (place / str(name)).resolve()
    if not path.is_relative_to(place.resolve()):
        raise ValueError(f"{clean(str(name), 80)} lies outside the image's folder")
    if not path.is_file():
        raise ValueError(f"{clean(str(name), 80)} is not there")
    return str(path)
