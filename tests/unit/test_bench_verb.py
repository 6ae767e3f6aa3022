"""`wspilot bench`: every phase with its spread, failures told, nothing left of an interrupt."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wspilot.cli.bench import FIGURES, Lease, document, spans, table
from wspilot.home import read_record


def test_a_phase_has_n_mean_sd_and_median() -> None:
    leases = [Lease(f"l{n}", [("boot", float(n), "node"), ("lrm", 1.0, "receipt")], ended=True)
              for n in (1, 2, 6)]  # fmt: skip
    doc = document([*leases, Lease("bad", error="no place")])
    boot = next(one for one in doc["phases"] if one["name"] == "boot")
    assert (boot["n"], boot["mean"], boot["sd"], boot["median"]) == (3, 3.0, 2.6458, 2.0)
    assert boot["figure"].startswith("4") and boot["clock"] == "node"
    assert [one["name"] for one in doc["phases"]] == ["lrm", "boot"]  # the figures' order
    text = table(doc, 2, 1)
    assert "2645.8" in text and "bad: no place" in text and "1 failed" in text
    one = document([Lease("x", [("boot", 1.0, "node")], ended=True)])["phases"][0]
    assert one["sd"] is None


def test_spans_are_those_of_vms_and_slots_that_have_ended() -> None:
    def span(name: str, seconds: float | None) -> dict[str, Any]:
        return {"name": name, "seconds": seconds, "clock": "node"}

    ws = {"vms": [{"spans": [span("boot", 2.0), span("stop", None)]}],
          "slots": [{"spans": [span("lrm", 1.0)]}]}  # fmt: skip
    assert spans(ws) == [("boot", 2.0, "node"), ("lrm", 1.0, "node")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(place / "run"))
        (place / "site.toml").write_text(
            '[site]\nlrm = "local"\nvmm = "sim"\n[vmm.sim]\nboot_s = 0.3\n'
            '[[type]]\nname = "small"\ncpus = 1\nmemory = "128MiB"\n'
        )
        done = cli(place / "h", "daemon", "--detach", "--config", str(place / "site.toml"))
        assert done.returncode == 0, done.stderr
        try:
            yield place / "h"
        finally:
            record = read_record(place / "h")
            assert record is not None
            os.kill(record.pid, signal.SIGTERM)


def argv(home: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "wspilot", "--home", str(home), *words]


def cli(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv(home, *words), capture_output=True, text=True, timeout=90,
                          check=False)  # fmt: skip


@pytest.mark.slow
def test_a_run_measures_every_phase_and_leaves_nothing(home: Path) -> None:
    done = cli(home, "bench", "--leases", "3", "--parallel", "2", "--count", "2", "--json")
    assert done.returncode == 0, done.stderr
    doc = json.loads(done.stdout)
    phases = {one["name"]: one for one in doc["phases"]}
    assert set(phases) == {name for names in FIGURES.values() for name in names}
    assert phases["active"]["n"] == phases["lrm"]["n"] == 3 and phases["boot"]["n"] == 6
    assert 0.3 <= phases["boot"]["median"] < 2
    assert json.loads(cli(home, "list", "--json").stdout)["workspaces"] == []


@pytest.mark.slow
def test_what_cannot_be_had_is_told_and_is_a_failure(home: Path) -> None:
    assert cli(home, "bench", "--type", "nonsense", "--leases", "1").returncode == 1
    assert cli(home, "bench", "--leases", "0").returncode == 2
    assert cli(home, "bench", "--duration", "7200").returncode == 2
    host = cli(home, "bench", "host")
    assert host.returncode == 5 and "this site's VMM is sim" in host.stderr


@pytest.mark.slow
def test_a_node_that_cannot_be_measured_says_why_and_its_slot_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    site, home = tmp_path / "site.toml", tmp_path / "h"
    site.write_text('[site]\nlrm = "local"\nvmm = "xen"\n[lrm.local]\nnodes = ["n1"]\n'
                    '[[type]]\nname = "small"\ncpus = 1\nmemory = "128MiB"\n')  # fmt: skip
    started = cli(home, "daemon", "--detach", "--config", str(site))
    assert started.returncode == 0, started.stderr
    try:
        assert cli(home, "bench", "host", "--rounds", "0").returncode == 2
        assert cli(home, "bench", "host", "--guests", "1").returncode == 2
        assert cli(home, "bench", "host", "--mib", "1000000").returncode == 2
        host = cli(home, "bench", "host", "n1", "--rounds", "1", "--mib", "64")
        assert host.returncode == 1, host.stdout + host.stderr
        assert "nothing was measured (n1)" in host.stderr and "wspilot-root" in host.stderr
        (slot,) = json.loads(cli(home, "slots", "--json").stdout)["slots"]
        assert (slot["state"], slot["nodes"]) == ("failed", ["n1"])
        (node,) = json.loads(cli(home, "nodes", "--json").stdout)["nodes"]
        assert node["state"] == "clean", "nothing was taken, and it said so"
    finally:
        record = read_record(home)
        assert record is not None
        os.kill(record.pid, signal.SIGTERM)


@pytest.mark.slow
def test_an_interrupt_destroys_what_is_under_way(home: Path) -> None:
    bench = subprocess.Popen(argv(home, "bench", "--leases", "50"), stderr=subprocess.PIPE,
                             start_new_session=True)  # fmt: skip
    try:
        deadline = time.monotonic() + 20
        while not json.loads(cli(home, "list", "--json").stdout)["workspaces"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        bench.send_signal(signal.SIGINT)
        bench.send_signal(signal.SIGINT)
        _, said = bench.communicate(timeout=30)
    finally:
        if bench.poll() is None:
            bench.kill()
            bench.communicate()
    assert bench.returncode == 130 and b"are destroyed" in said
    assert json.loads(cli(home, "list", "--json").stdout)["workspaces"] == []
