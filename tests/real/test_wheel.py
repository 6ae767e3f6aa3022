"""The wheel, not an editable install: built from a clean copy, installed elsewhere, and used."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.real.interpreters import interpreters
from wspilot.nodecode import build, pack

pytestmark = pytest.mark.real
ROOT = Path(__file__).resolve().parents[2]
NOT_THERE = shutil.ignore_patterns(".git", ".venv", "*cache*", "__pycache__", "*.pyz", "dist")


def pip(python: Path, *words: str) -> None:
    """Run pip; its output is the message when it fails."""
    argv = [python, "-m", "pip", "--disable-pip-version-check", "-q", *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where wspilot lies in a fresh venv: `pip install` of a clone, with no make before it."""
    place = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, place / "clone", ignore=NOT_THERE)
    pip(Path(sys.executable), "wheel", "--no-deps", "-w", str(place), str(place / "clone"))
    (wheel,) = place.glob("*.whl")
    venv.create(place / "venv", with_pip=True)
    pip(place / "venv/bin/python", "install", "--no-deps", str(wheel))
    (found,) = place.glob("venv/lib/python*/site-packages/wspilot")
    return found


def test_the_installed_zipapp_runs_on_every_interpreter(installed: Path) -> None:
    zipapp = installed / "_data" / "wspilot-node.pyz"
    for python in interpreters().values():
        done = subprocess.run(
            [python, zipapp, "--help"], capture_output=True, text=True, timeout=60, cwd="/"
        )
        assert done.returncode == 0 and "pilot" in done.stdout, done.stderr


def test_the_installed_package_finds_it(installed: Path) -> None:
    code = "from wspilot.nodecode import node_zipapp; print(*node_zipapp())"
    python = installed.parents[3] / "bin" / "python"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd="/", timeout=60)
    path, digest = done.stdout.split()
    assert Path(path) == installed / "_data" / "wspilot-node.pyz", done.stderr
    assert len(digest) == 64


def test_nothing_built_is_left_in_the_clone(installed: Path) -> None:
    assert not list(installed.parents[4].glob("clone/**/*.pyz"))


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = build(tmp_path / "a.pyz"), build(tmp_path / "b.pyz")
    assert first == second and (tmp_path / "a.pyz").read_bytes() == pack()
    names = zipfile.ZipFile(tmp_path / "a.pyz").namelist()
    assert names == sorted(names) and "qemu/qmp/__init__.py" in names
    assert not any("daemon" in name or "tui" in name for name in names)
