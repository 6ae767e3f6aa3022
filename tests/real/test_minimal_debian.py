"""README's first lines on a bare Debian, as root and as an ordinary user, without QEMU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.debian_root import REPO, DebianRoot, make_debian_root, readme_packages

pytestmark = pytest.mark.real

LEFT = r"""
import os, re, time
mine = {os.getpid(), os.getppid(), 1}
def left():
    for name in filter(str.isdigit, os.listdir('/proc')):
        try:
            words = open(f'/proc/{name}/cmdline').read().replace('\0', ' ')
            state = open(f'/proc/{name}/stat').read().rpartition(')')[2].split()[0]
        except OSError:
            continue
        if int(name) not in mine and state not in 'ZX':
            yield f'process {name} {words}'
    for place in ('/tmp', '/var/tmp', '/dev/shm'):
        yield from (f'file {place}/{name}' for name in os.listdir(place))
end = time.monotonic() + 5
while list(left()) and time.monotonic() < end:
    time.sleep(0.1)
print('LEFT', list(left()))
"""


@pytest.fixture(scope="module")
def debian() -> Iterator[DebianRoot]:
    root = make_debian_root(readme_packages((REPO / "README.md").read_text()))
    yield root
    root.remove()


def in_clone(root: DebianRoot, script: str, user: str, timeout: float = 240) -> tuple[int, str]:
    done = root.run(f"cd wspilot && {script}", user=user, timeout=timeout)
    return done.returncode, done.stdout


@pytest.mark.parametrize("user", ["root", "ada"])
def test_the_demo_of_a_fresh_clone(debian: DebianRoot, user: str) -> None:
    if user != "root":
        debian.add_user(user)
    (debian.path / "left.py").write_text(LEFT)
    cloned = debian.run(f"git clone -q {debian.clone_source(user)} wspilot", user=user)
    assert cloned.returncode == 0, cloned.stdout

    # Ctrl-C in the middle of the set-up: the next make repairs what that left.
    code, text = in_clone(debian, "timeout -s INT 5 make demo VMM=sim", user)
    assert code != 0 and "is ready" not in text, text

    demo = "make demo VMM=sim; code=$?; python3 /left.py; exit $code"
    code, text = in_clone(debian, demo, user)
    assert code == 0, text
    assert "simulated" in text
    assert "LEFT []" in text, text

    code, text = in_clone(debian, "timeout 30 sh .ci/venv.sh run", user)
    assert (code, text) == (0, "")


def test_a_missing_package_is_named(debian: DebianRoot) -> None:
    [ensurepip] = Path(debian.path / "usr/lib").glob("python3.*/ensurepip")
    away = ensurepip.with_name("ensurepip.away")
    debian.run(f"git clone -q {debian.clone_source('root')} missing")
    ensurepip.rename(away)
    try:
        done = debian.run("cd missing && sh .ci/venv.sh run")
    finally:
        away.rename(ensurepip)
    assert done.returncode == 2, done.stdout
    assert "apt-get install -y python3-venv" in done.stdout
