"""Fixtures of the real parts. A missing part raises here: the stage runner decides who may run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.real.slurm import Settings, SlurmCluster
from tests.real.user_install import UserInstall, make_user_install
from wspilot.nodecode import build


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmCluster]:
    """The four-node Slurm that tests share; leave its nodes as you found them."""
    with SlurmCluster() as cluster:
        yield cluster


@pytest.fixture
def slurm_with() -> Iterator[Callable[[Settings], SlurmCluster]]:
    """Start a Slurm of one's own: `slurm_with(Settings(kill_wait=2))`; ended with the test."""
    with ExitStack() as stack:
        yield lambda settings: stack.enter_context(SlurmCluster(settings))


@pytest.fixture(scope="session")
def user_install() -> Iterator[UserInstall]:
    """wspilot in a venv of the system's Python that any user can run."""
    install = make_user_install()
    yield install
    install.remove()


@pytest.fixture(scope="module")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The node side as one file, for the tests of one module."""
    path = tmp_path_factory.mktemp("node") / "wspilot-node.pyz"
    build(path)
    return path
