"""The node code as one file: builds `wspilot-node.pyz`, and finds the one that is installed.

Reproducible: the same sources and Python give the same bytes, so that a job script can name it by
its sha256. Beside each source lies its bytecode for the Python that builds (65 ms of every pilot's
start); an interpreter of another version takes the source.
Hatch loads this file by its path, before wspilot is installed: nothing but the standard library is
imported at its top, and `hatchling` only where hatch is running.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import marshal
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
SHARED = (
    *("__init__", "errors", "text", "model", "messages", "ext4", "qcow2", "channel"),
    "hostfigures",
)
PACKED = PACKAGE / "_data" / "wspilot-node.pyz"
WHEN = (2020, 1, 1, 0, 0, 0)
SHEBANG = b"#!/usr/bin/env python3\n"
ROOT_SHEBANG = b"#!/usr/bin/python3 -I\n"
ROOT_FILES = (
    *("__init__", "node/__init__", "node/values", "node/root_helper", "node/root_taps"),
    *("node/root_filter", "node/root_dhcp", "node/root_xl", "node/root_balloon", "node/root_guest"),
    *("node/root_disks", "node/root_xen", "node/root_bench", "node/root_main"),
)
MAIN = """\
import sys
from wspilot.node.__main__ import main
sys.exit(main())
"""
# Bundled and never used on a node: an interactive shell, and what it needs.
LEFT_OUT = frozenset({"qmp_shell.py", "qmp_tui.py", "py.typed"})


def build(target: Path) -> str:
    """Write the zipapp to `target`, by rename; its sha256. Raises OSError, ImportError."""
    return _write(target, pack())


def build_root(target: Path) -> str:
    """The same for the root helper with all its verbs: one file, which root owns."""
    return _write(target, pack(_root_content(), ROOT_SHEBANG))


def _write(target: Path, raw: bytes) -> str:
    target.parent.mkdir(parents=True, exist_ok=True)
    fd, draft = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with open(fd, "wb") as file:
            file.write(raw)
        Path(draft).chmod(0o755)
        Path(draft).replace(target)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    return hashlib.sha256(raw).hexdigest()


def node_zipapp(home: Path | None = None) -> tuple[Path, str]:
    """The zipapp and its sha256: the installed one, else one built from this checkout.

    It is kept below `home` (the daemon's), else in the user's cache directory, under the name of
    its content: a source that changed gives another file, and nothing is ever overwritten.
    """
    if PACKED.exists():
        return PACKED, hashlib.sha256(PACKED.read_bytes()).hexdigest()
    raw = pack()
    digest = hashlib.sha256(raw).hexdigest()
    path = _cache(home) / f"wspilot-node-{digest[:16]}.pyz"
    if not path.exists() or path.read_bytes() != raw:
        build(path)
    return path, digest


def _cache(home: Path | None) -> Path:
    if home is not None:
        return home / "node"
    cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(cache) / "wspilot"


def pack(content: Iterable[tuple[str, bytes]] | None = None, shebang: bytes = SHEBANG) -> bytes:
    """The zipapp's bytes. Raises ImportError when qemu.qmp is not installed."""
    buffer = io.BytesIO(shebang)
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in sorted(_with_bytecode(_content() if content is None else content)):
            info = zipfile.ZipInfo(name, WHEN)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, raw)
    return buffer.getvalue()


def _content() -> Iterator[tuple[str, bytes]]:
    yield "__main__.py", MAIN.encode()
    for name in SHARED:
        yield f"wspilot/{name}.py", (PACKAGE / f"{name}.py").read_bytes()
    for path in (PACKAGE / "node").rglob("*.py"):
        yield f"wspilot/{path.relative_to(PACKAGE).as_posix()}", path.read_bytes()
    for path in _qmp().glob("*.py"):
        if path.name not in LEFT_OUT:
            yield f"qemu/qmp/{path.name}", path.read_bytes()
    yield "qemu/", b""  # zipimport finds a namespace package by its directory's entry alone


def _root_content() -> Iterator[tuple[str, bytes]]:
    yield "__main__.py", MAIN.replace("node.__main__", "node.root_main").encode()
    for name in ROOT_FILES:
        yield f"wspilot/{name}.py", (PACKAGE / f"{name}.py").read_bytes()


def _with_bytecode(content: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    for name, raw in content:
        yield name, raw
        if not name.endswith(".py"):
            continue
        code = compile(raw, name, "exec", dont_inherit=True, optimize=0)
        # Unchecked: the source in the zip cannot change under it. Marshal's version 2 has no
        # references, which depend on what else the building process has in memory.
        head = importlib.util.MAGIC_NUMBER + b"\1\0\0\0" + importlib.util.source_hash(raw)
        yield f"{name}c", head + marshal.dumps(code, 2)


def _qmp() -> Path:
    """Where qemu.qmp is installed; `qemu` is a namespace package, and so it stays in the zip."""
    spec = importlib.util.find_spec("qemu.qmp")
    if spec is None or spec.origin is None:
        raise ImportError("qemu.qmp is not installed: pip install qemu.qmp==0.0.6")
    return Path(spec.origin).parent


try:
    from hatchling.builders.hooks.plugin.interface import (  # type: ignore[import-not-found, unused-ignore]
        BuildHookInterface,
    )
except ImportError:  # not under hatch
    pass
else:

    class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg, misc, unused-ignore]
        """Puts the zipapp into the wheel (but not into an editable one: that builds its own)."""

        PLUGIN_NAME = "custom"

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Called by hatch before the wheel is written."""
            if self.target_name != "wheel" or version == "editable":
                return
            place = Path(tempfile.mkdtemp(prefix="wspilot-build-"))
            self._built = place / PACKED.name
            build(self._built)
            build_data["force_include"][str(self._built)] = f"wspilot/_data/{PACKED.name}"

        def finalize(self, version: str, build_data: dict[str, Any], artifact: str) -> None:
            """Called after it: nothing built stays behind."""
            built: Path | None = getattr(self, "_built", None)
            if built is not None:
                built.unlink(missing_ok=True)
                built.parent.rmdir()
