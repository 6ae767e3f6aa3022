"""Records as documents: the keys that scripts and the TUI rely on, and times in one form."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.fake_daemon import NODE, SLOT, T0, VM, WS, books
from wspilot.config import load
from wspilot.daemon import documents
from wspilot.model import EventRecord, Outcome, VmState, WorkspaceState

EVENT = EventRecord("7", T0, "info", "lrm", "qsub", "aaaa1111", "ssss0001", "", "",
                    {"argv": ["qsub"], "rc": 0, "seconds": 0.1, "timed_out": False})  # fmt: skip
KEYS = {  # SEAMS of the parts: what a subscriber may rely on
    "workspaces": "id name state wanted outcome cause causes since waits_for created active_at ends"
    " lease_s groups vms slots",
    "vms": "id name workspace group index type image state since wanted waits_for node slot phase"
    " cause unproven progress nics spans seen seen_by cpus memory_mib",
    "slots": "id name workspace state wanted since waits_for cause causes nodes count ppn"
    " memory_mib walltime_s job lrm spans vms",
    "nodes": "id name state since cause slots cpus memory_mib taken_mib kvm skew_s seen",
    "events": "id at level kind text workspace slot vm node data",
}
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.mark.parametrize("record", [WS, VM, SLOT, NODE, EVENT], ids=lambda one: type(one).__name__)
def test_items_have_their_keys_and_survive_json(record: object) -> None:
    item = documents.item(books(), record)
    assert set(KEYS[item["table"]].split()) <= set(item)
    assert json.loads(json.dumps(item)) == item
    for key in ("since", "created", "active_at", "ends", "seen", "at"):
        assert item.get(key) is None or RFC3339.fullmatch(item[key]), key


def test_a_workspace_holds_its_vms_and_slots_in_full() -> None:
    doc = documents.workspace(books(), WS)
    assert doc["schema"] == 1
    ws = doc["workspace"]
    assert [vm["name"] for vm in ws["vms"]] == ["osg/worker/1", "osg/worker/2"]
    assert ws["vms"][0]["nics"] == [
        {"network": "private", "mac": "52:54:00:00:00:02", "ip": "10.77.0.2"}
    ]
    assert ws["vms"][0]["spans"][1]["seconds"] is None  # under way
    assert ws["groups"][0]["roles"] == {"provides": ["worker"], "requires": ["ce"]}
    assert ws["groups"][0]["scripted"] is False and "user_data" not in ws["groups"][0]
    told = documents.item(books(), replace(WS, groups=(replace(WS.groups[0], user_data="#!/"),)))
    assert told["groups"][0]["scripted"] is True
    [slot] = ws["slots"]
    assert slot["nodes"] == ["node_1"] and slot["name"] == "ws-ssss0001-01"
    assert {span["name"]: span.get("node") for span in slot["spans"]} == {
        "lrm": None, "reserve": "node_1",
    }  # fmt: skip


def test_listings_are_plural_nouns_without_the_table() -> None:
    doc = documents.listing("slots", books(), [SLOT])
    assert set(doc) == {"schema", "slots"} and "table" not in doc["slots"][0]


def test_states_are_their_words() -> None:
    ended = replace(WS, state=WorkspaceState.ENDED, outcome=Outcome.PREEMPTED, ends=None)
    item = documents.item(books(), ended)
    assert (item["state"], item["outcome"], item["ends"]) == ("ended", "preempted", None)
    for state in VmState:
        assert documents.item(books(), replace(VM, state=state))["state"] == state.value


def test_the_built_in_site_as_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSPILOT_CONFIG", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    site = load(None, tmp_path)
    for doc in (documents.config(site), documents.types(site)):
        assert json.loads(json.dumps(doc)) == doc and doc["schema"] == 1
    assert {kind["name"] for kind in documents.types(site)["types"]} == {"small", "medium", "large"}
