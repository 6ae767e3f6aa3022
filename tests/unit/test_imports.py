"""Imports point one way (DESIGN.md section 4), and what must be quick to start loads little.

Read from the source with `ast`, lazy imports included where they matter, and once more from a real
interpreter: a module that was loaded cannot argue.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import wspilot

ROOT = Path(wspilot.__file__).parent
HEADLESS = sorted(
    str(path.relative_to(ROOT.parent).with_suffix("")).replace("/", ".").removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if "tui" not in path.relative_to(ROOT).parts and path.name not in ("__main__.py", "entry.py")
)
SHARED = ("wspilot.errors", "wspilot.text", "wspilot.model", "wspilot.messages", "wspilot.ext4",
          "wspilot.qcow2",
          "wspilot.channel", "wspilot.hostfigures")  # fmt: skip
HEAVY = ("asyncio", "textual", "sh", "tinydb", "watchdog", "tomli", "rich", "qemu")


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, lazy ones too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(str(node.module))
            if node.module == "wspilot":
                found.update(f"wspilot.{alias.name}" for alias in node.names)
    return found


def named(path: Path, *prefixes: str) -> set[str]:
    return {
        name
        for name in imports(path)
        if any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)
    }


def files(*parts: str) -> list[Path]:
    place = ROOT.joinpath(*parts)
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


@pytest.mark.parametrize("path", files("node"), ids=str)
def test_node_code_knows_neither_daemon_nor_tui_nor_cli(path: Path) -> None:
    allowed = {"wspilot", "wspilot.__version__", *SHARED}
    foreign = named(path, "wspilot") - named(path, "wspilot.node", *SHARED) - allowed
    assert foreign == set()


@pytest.mark.parametrize(
    "name", ["errors", "text", "model", "messages", "ext4", "qcow2", "channel"]
)
def test_what_daemon_and_node_share_is_the_standard_library(name: str) -> None:
    tops = {one.partition(".")[0] for one in imports(ROOT / f"{name}.py")}
    assert tops - set(sys.stdlib_module_names) <= {"wspilot"}
    assert named(ROOT / f"{name}.py", "wspilot") <= set(SHARED) | {"wspilot"}


@pytest.mark.parametrize("path", files("daemon"), ids=str)
def test_the_daemon_knows_neither_tui_nor_cli(path: Path) -> None:
    assert named(path, "wspilot.tui", "wspilot.cli", "textual", "rich") == set()


@pytest.mark.parametrize("path", files("tui"), ids=str)
def test_the_tui_knows_only_the_client(path: Path) -> None:
    assert named(path, "wspilot.daemon", "wspilot.node") == set()


def test_the_client_knows_only_what_is_shared() -> None:
    allowed = {"wspilot.errors", "wspilot.text", "wspilot.model", "wspilot.home", "wspilot"}
    assert named(ROOT / "client.py", "wspilot") <= allowed


def test_only_the_tui_and_its_launchers_name_it() -> None:
    naming = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if "tui" not in path.relative_to(ROOT).parts and named(path, "wspilot.tui", "textual")
    }
    assert naming <= {"cli/verbs.py"}


def loaded(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after `code`."""
    tail = "\nimport sys, json; sys.__stdout__.write(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code + tail], capture_output=True, timeout=60, cwd=ROOT.parent
    )
    assert done.returncode == 0, done.stderr.decode()
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def test_no_headless_module_loads_textual() -> None:
    code = "import importlib\n" + "".join(
        f"importlib.import_module({name!r})\n" for name in HEADLESS
    )
    assert loaded(code) & {"textual", "rich"} == set()


@pytest.mark.parametrize("words", [["list"], ["show", "x"], ["destroy", "x", "--yes"]])
def test_a_plain_verb_loads_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    argv = ["--home", str(tmp_path), *words]
    code = "import sys; sys.stderr = open('/dev/null', 'w')\nfrom wspilot.cli import main\n"
    code += f"assert main({argv!r}) == 3"
    assert loaded(code) & set(HEAVY) == set()
