"""The paper's client story with real guests: one request, and its members know each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomllib

from tests.real.lab import Lab
from wspilot.errors import Code
from wspilot.guest import GuestImage, build_guest, default_cache

pytestmark = pytest.mark.real
EXAMPLE = Path(__file__).parents[2] / "examples" / "osg-cluster.toml"
MEETS_ALL = """#!/bin/sh
for h in $(cat /etc/wspilot/nodefile); do
  n=0
  until ping -c 1 -W 1 $h >/dev/null 2>&1; do
    n=$((n+1)); [ $n -gt 60 ] && { echo "no answer from $h"; exit 1; }
    sleep 1
  done
done
echo "$(hostname) met $(wc -l </etc/wspilot/nodefile): $(cut -d' ' -f1 /etc/wspilot/roles | xargs)"
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    guest: GuestImage = build_guest(default_cache() / "guest", default_cache() / "deb", disk=True)
    one = Lab(tmp_path, guest)
    yield one
    one.close()


def toml(doc: dict[str, Any], path: Path) -> str:
    """As much of TOML as an ensemble needs."""
    lines = ["[workspace]", *(f"{key} = {_value(one)}" for key, one in doc["workspace"].items())]
    for group in doc["group"]:
        lines += ["[[group]]", *(f"{key} = {_value(one)}" for key, one in group.items())]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def _value(one: Any) -> str:
    if isinstance(one, dict):
        return "{ " + ", ".join(f"{key} = {_value(value)}" for key, value in one.items()) + " }"
    if isinstance(one, str):
        return "'''" + one + "'''"
    return str(one).replace("'", '"')


def test_every_member_of_the_osg_example_resolves_and_reaches_every_other(
    lab: Lab, tmp_path: Path
) -> None:
    doc = tomllib.loads(EXAMPLE.read_text())
    for group in doc["group"]:
        group["user_data"] = MEETS_ALL
    # One that cannot run what it was given, and says so; and one that knows no secret.
    doc["group"][-1]["user_data"] = MEETS_ALL
    lab.cli("deploy", toml(doc, tmp_path / "osg.toml"), "--wait", "--timeout", "280")
    ws = lab.until("osg", lambda ws: all(vm["context"] == "ok" for vm in ws["vms"]))
    said = {vm["name"]: vm["said"] for vm in ws["vms"]}
    assert said == {
        "osg/ce/1": "ce-1 met 4: ce se worker",
        "osg/se/1": "se-1 met 4: ce se worker",
        "osg/worker/1": "worker-1 met 4: ce se worker",
        "osg/worker/2": "worker-2 met 4: ce se worker",
    }
    assert "4 of 4 members say ok" in lab.run("show", "osg").stdout

    # Verbs on a group, with its network afterwards as before.
    lab.cli("suspend", "osg/worker", "--timeout", "60")
    assert {vm["state"] for vm in lab.show("osg")["vms"]} == {"running", "suspended"}
    lab.cli("resume", "osg/worker", "--timeout", "60")
    lab.cli("stop", "osg/se", "--timeout", "60")
    lab.cli("start", "osg/se", "--timeout", "200")
    assert {vm["state"] for vm in lab.show("osg")["vms"]} == {"running"}
    refused = lab.run("start", "osg/se", "--timeout", "60")
    assert refused.returncode == 0, "what is so already is done"
    lab.cli("pause", "osg/ce/1")
    refused = lab.run("reboot", "osg/ce/1")
    assert refused.returncode == Code.REFUSED and "it is paused; reboot needs" in refused.stderr

    # And on the whole workspace, of which one is what it shall be already.
    for verb, then in (("pause", "paused"), ("resume", "running"), ("suspend", "suspended"),
                       ("resume", "running"), ("reboot", "running")):  # fmt: skip
        lab.cli(verb, "osg", "--timeout", "240")
        assert {vm["state"] for vm in lab.show("osg")["vms"]} == {then}, verb
    assert lab.show("osg")["state"] == "active"
    lab.cli("extend", "osg", "--by", "1m")


def test_a_guest_that_reports_an_error_and_one_that_never_says_a_word(
    lab: Lab, tmp_path: Path
) -> None:
    hostile = "#!/bin/sh\nprintf 'fine\\n\\033[2J[red]no disk here\\n'; exit 3\n"
    silent = "#!/bin/sh\nsleep 10000\n"
    role = {"provides": ["x"]}
    one = {"type": "small", "nics": ["private"], "roles": role}
    doc = {
        "workspace": {"name": "w", "duration": "10m"},
        "group": [
            {**one, "name": "bad", "user_data": hostile},
            {**one, "name": "mute", "user_data": silent},
        ],
    }
    lab.cli("deploy", toml(doc, tmp_path / "w.toml"), "--wait", "--timeout", "280")
    ws = lab.until("w", lambda ws: ws["vms"][0]["context"] == "error")
    assert ws["vms"][0]["said"] == "3: [2J[red]no disk here"
    shown = lab.run("show", "w").stdout
    assert "w/bad/1 reports an error: 3: [2J[red]no disk here" in shown
    assert "no answer yet from w/mute/1" in shown and "\x1b" not in shown
