"""What selftest makes of a node, and bench of its seconds: pure."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tests.unit.node.xen import recorded
from wspilot import hostfigures
from wspilot.node import root_xl, selftest

FACTS: dict[str, Any] = {
    "xen_version": "4.17.7", "total_memory": "2047", "free_memory": "1000", "xl_conf": "auto",
    "xen_commandline": "smt=1 dom0_mem=1024M,max:1024M", "dev": [], "scripts": [],
    "dom0_min_mib": 400, "reserve_mib": 96, "dom0_mib": 1024, "full_mib": 1024, "taken_mib": 0,
    "available_mib": 800,
}  # fmt: skip
FOUND: dict[str, Any] = {
    "python": [3, 11, 2], "uid": 1500, "xen": True, "roots": [], "helper": "", "no_bridge": [],
    "about": {"user": "alice", "bridges": {"xenbr0": ["10.9.0.0/25"]},
              "verbs": sorted(selftest.NEEDED)}, "facts": FACTS,
}  # fmt: skip


def judged(**change: Any) -> dict[str, tuple[str, str]]:
    return {one.what: (one.state, one.text) for one in selftest.judge({**FOUND, **change})}


def test_what_is_asked_of_the_helper_is_what_it_knows() -> None:
    code = "from wspilot.node import root_main, root_helper as r; print(*r.VERBS)"
    known = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(known.stdout.split()) >= selftest.NEEDED


def test_a_node_that_fits_has_nothing_but_ok() -> None:
    found = judged()
    assert {state for state, _ in found.values()} == {"ok"}
    assert found["memory"][1] == "1024 MiB, 0 taken; 624 could be taken now"


@pytest.mark.parametrize(
    ("change", "what", "state", "text"),
    [
        ({"python": [3, 8, 1]}, "python", "bad", "3.8.1"),
        ({"uid": 0}, "user", "warn", "root"),
        ({"roots": ["/var/tmp"]}, "places", "bad", "/var/tmp cannot be written"),
        ({"helper": "/x is not there"}, "helper", "bad", "/x"),
        ({"about_error": ["sudo: no", "rule"]}, "sudo rule and node.conf", "bad", "sudo: no"),
        ({"facts_error": ["xl hangs", ""]}, "sudo rule and node.conf", "bad", "xl hangs"),
        ({"no_bridge": ["xenbr0"]}, "bridge", "bad", "which is not here"),
        ({"about": {**FOUND["about"], "bridges": {}}}, "bridge", "warn", "names none"),
        (
            {"about": {**FOUND["about"], "verbs": ["about", "net-attach"]}},
            "helper",
            "bad",
            "another release: it knows no balloon-give",
        ),
    ],
)
def test_what_a_node_lacks(change: dict[str, Any], what: str, state: str, text: str) -> None:
    found = judged(**change)
    assert found[what][0] == state and text in found[what][1]


@pytest.mark.parametrize(
    ("change", "what", "state", "text"),
    [
        ({"xl_conf": "on"}, "autoballoon", "bad", "take domain 0's memory"),
        ({"xen_commandline": ""}, "autoballoon", "bad", "no dom0_mem="),
        ({"xen_commandline": "dom0_mem=1024M"}, "domain 0", "warn", "no maximum"),
        ({"dev": ["stdin"]}, "dev", "bad", "/dev lacks stdin"),
        ({"scripts": ["vif-bridge"]}, "scripts", "bad", "lacks vif-bridge"),
        ({"available_mib": 96}, "memory", "bad", "0 could be taken"),
        ({"dom0_mib": 824}, "books", "warn", "824 + 0 MiB are not the 1024"),
        ({"xen_version": "", "total_memory": ""}, "xen", "bad", "not the xl that is known"),
    ],
)
def test_what_domain_0_lacks(change: dict[str, Any], what: str, state: str, text: str) -> None:
    found = judged(facts={**FACTS, **change})
    assert found[what][0] == state and text in found[what][1]


def test_no_xen_needs_no_helper_and_says_so() -> None:
    found = judged(xen=False, helper="it is not there")
    assert found["helper"][0] == "warn" and found["xen"][0] == "ok"


def test_what_another_version_calls_info_has_none_of_its_keys() -> None:
    assert root_xl.parse_info("Xen info v9\n[memory]\ntotal=2047\n") == {}
    assert root_xl.parse_info(recorded.INFO)["xen_version"] == "4.17.7"


def test_the_benchs_figures_against_bare_xl_of_the_same_run() -> None:
    seconds = {
        "helper": [0.5, 0.5, 0.5], "bare reduce": [2.0, 2.0, 5.0], "bare restore": [1.0, 1.0, 1.0],
        "bare list": [0.2, 0.2, 0.2],
        "reduce": [2.5, 2.5, 2.5], "restore": [1.5, 1.5, 3.0], "kill-all": [2.2, 2.2, 2.2],
        "helper, VMs": [0.9], "bare end": [2.0], "kill-all, VMs": [3.9],
    }  # fmt: skip
    rows = {row["what"]: row for row in hostfigures.figures(seconds)}
    assert rows["bare reduce"] == {"what": "bare reduce", "n": 3, "mean": 3.0, "sd": 1.732,
                                   "median": 2.0}  # fmt: skip
    assert (rows["reduce"]["over_bare"], rows["reduce"]["over_bare_and_start"]) == (1.25, 1.0)
    assert (rows["restore"]["over_bare"], rows["restore"]["over_bare_and_start"]) == (1.5, 1.0)
    assert rows["kill-all"]["over_bare_and_start"] == 1.0, "it starts the helper twice, and looks"
    assert rows["kill-all, VMs"]["over_bare_and_start"] == 1.0, "the first start beside the guests"
    assert "reduce" in hostfigures.table({"mib": 256, "figures": list(rows.values())})


def test_a_document_from_a_node_is_read_as_numbers_and_clean_words_or_not_at_all() -> None:
    row = {"what": "reduce\x1b[2J", "n": 3, "mean": 1.0, "sd": 0.1, "median": 1.0}
    ratios = {"over_bare": 1.5, "over_bare_and_start": 1.1}
    found = hostfigures.checked({"mib": 128, "figures": [{**row, **ratios, "more": 1}, row]})
    assert found is not None and "\x1b" not in str(found) and "more" not in str(found)
    assert "1.50 (1.10)" in hostfigures.table(found)
    for bad in (None, {}, {"mib": 1}, {"mib": "1", "figures": []}, {"mib": 1, "figures": [1]},
                {"mib": 1, "figures": [{**row, "mean": "1"}]},
                {"mib": 1, "figures": [{**row, "mean": float("nan")}]},
                {"mib": 1, "figures": [row] * 17}):  # fmt: skip
        assert hostfigures.checked(bad) is None, bad


def test_one_round_has_no_deviation() -> None:
    seconds = {name: [1.0] for name in ("helper", "bare reduce", "bare restore", "reduce")}
    assert all(row["sd"] == 0.0 for row in hostfigures.figures(seconds))
