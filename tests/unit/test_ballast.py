"""On a full disk beginnings are refused and ends get through."""

from __future__ import annotations

from pathlib import Path

import pytest

from wspilot.daemon.ballast import PIECE_BYTES, PIECES, Ballast


def test_pieces_are_laid_given_up_one_by_one_and_laid_again(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path)
    assert ballast.lay() == PIECES
    taken = [path.stat().st_blocks * 512 for path in tmp_path.iterdir()]
    assert min(taken) >= PIECE_BYTES  # room, not a promise of room
    assert ballast.spend() and len(list(tmp_path.iterdir())) == PIECES - 1
    assert ballast.lay() == PIECES
    assert all(ballast.spend() for _ in range(PIECES)) and not ballast.spend()


def test_a_full_disk_has_as_many_pieces_as_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = [3]

    def allocate(descriptor: int, offset: int, size: int) -> None:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", allocate)
    assert Ballast(tmp_path).lay() == 3 and len(list(tmp_path.iterdir())) == 3
