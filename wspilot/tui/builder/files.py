"""Where ensembles come from and go to: examples, files that the user names, and the draft.

The draft is written after every change, so that a crash costs nothing. Blocking: called in threads.
"""

from __future__ import annotations

from pathlib import Path

from wspilot.tui.habits import config_dir, write_atomically

MOST_BYTES = 256 * 1024
MOST_FILES = 200


def examples() -> list[Path]:
    """The ensembles that come with wspilot."""
    package = Path(__file__).resolve().parents[2]
    packed = package / "_data" / "examples"
    return sorted((packed if packed.is_dir() else package.parent / "examples").glob("*.toml"))


def own() -> list[Path]:
    """The ensembles that the user keeps: what is saved is offered again."""
    try:
        return sorted(own_dir().glob("*.toml"))[:MOST_FILES]
    except OSError:
        return []


def own_dir() -> Path:
    """Where they lie."""
    return config_dir() / "examples"


def read(path: Path) -> str:
    """A small ordinary file. Anything else (a pipe, a disk) could hold us for ever. Raises OSError,
    ValueError, RuntimeError (a `~` that is nobody's)."""
    path = path.expanduser()
    if not path.is_file():
        raise OSError("there is no such file")
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise OSError("too large for an ensemble")
    return data.decode("utf-8").replace("\r\n", "\n")


def save(path: Path, text: str) -> Path:
    """A new file, or one that is replaced. Raises OSError, RuntimeError."""
    path = path.expanduser()
    if path.is_dir():
        raise OSError("that is a directory")
    if path.exists() and not path.is_file():
        raise OSError("that is no file")
    if not write_atomically(path, text):
        raise OSError("the disk refuses it")
    return path


class DraftFile:
    """The one draft of a home; without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def load(self) -> str:
        """The text of an unfinished ensemble; empty: there is none."""
        if self._path is None:
            return ""
        try:
            return read(self._path)
        except (OSError, ValueError, RuntimeError):
            return ""

    def keep(self, text: str) -> bool:
        """Until it is deployed or another takes its place; False when the disk refuses."""
        text = text.encode("utf-8", "replace").decode()  # a lone surrogate cannot be written
        return self._path is None or write_atomically(self._path, text)

    def drop(self) -> None:
        """It is done with."""
        if self._path is not None:
            try:
                self._path.unlink(missing_ok=True)
            except OSError:
                pass  # then it is offered once more
