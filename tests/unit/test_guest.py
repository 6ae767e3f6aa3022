"""The guest's pieces that need neither network nor QEMU."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from wspilot import guest
from wspilot.errors import WspilotError


def test_cpio_is_what_cpio_reads_and_always_the_same(tmp_path: Path) -> None:
    tree = {"bin/": (0o755, b""), "bin/a": (0o755, b"#!x\n"), "b": (0o644, b"12345")}
    made = guest.cpio(tree)
    assert made == guest.cpio(dict(reversed(list(tree.items()))))
    assert made.startswith(b"070701") and len(made) % 4 == 0
    names, at = [], 0
    while at < len(made):
        fields = [int(made[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = made[at + 110 : at + 110 + fields[11] - 1].decode()
        start = (at + 110 + fields[11] + 3) & ~3
        names.append((name, oct(fields[1]), made[start : start + fields[6]]))
        at = (start + fields[6] + 3) & ~3
    assert names == [
        ("b", "0o100644", b"12345"),
        ("bin", "0o40755", b""),
        ("bin/a", "0o100755", b"#!x\n"),
        ("TRAILER!!!", "0o0", b""),
    ]


def test_a_module_loses_its_signature_only() -> None:
    body = b"\x7fELF module"
    signed = body + b"S" * 300 + b"\0" * 8 + (300).to_bytes(4, "big") + guest._SIGNATURE
    assert guest._unsigned(signed) == body
    assert guest._unsigned(body) == body


def test_both_scripts_are_shell(tmp_path: Path) -> None:
    for number, script in enumerate((guest.INIT, guest.SBIN_INIT, guest.POWER)):
        path = tmp_path / str(number)
        path.write_text(script)
        subprocess.run(["sh", "-n", str(path)], check=True)


def _complete(out: Path) -> None:
    sizes = {}
    for name in ("vmlinuz", "initrd"):
        (out / name).write_bytes(b"x" * 10)
        sizes[name] = 10
    doc = {"recipe": guest.recipe(), "sizes": sizes, "digest": "d", "append": "a"}
    (out / "image.json").write_text(json.dumps({**doc, "ready": "agent", "pattern": "login:"}))


def test_the_second_time_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    _complete(tmp_path)
    built = guest.build_guest(tmp_path, tmp_path / "cache")
    assert built.image["kernel"] == str(tmp_path / "vmlinuz") and built.disk is None


@pytest.mark.parametrize("harm", ["vmlinuz", "image.json", "short", "recipe"])
def test_what_is_not_whole_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    _complete(tmp_path)
    if harm == "short":
        (tmp_path / "initrd").write_bytes(b"x")
    elif harm == "recipe":
        monkeypatch.setattr(guest, "INIT", "another")
    else:
        (tmp_path / harm).unlink()
    tried: list[str] = []

    def run(*argv: str, cwd: str | None = None, limit_s: float = 0) -> str:
        tried.append(argv[0])
        raise WspilotError("no network")

    monkeypatch.setattr(guest, "_run", run)
    with pytest.raises(WspilotError, match="no network"):
        guest.build_guest(tmp_path, tmp_path / "cache")
    assert tried == ["apt-cache"]


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WspilotError) as caught:
        guest._tool("no-such-tool")
    assert "needs no-such-tool" in caught.value.message and "apt-get install" in caught.value.hint
