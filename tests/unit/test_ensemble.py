"""Requests: what is understood, and every way to get one wrong, with its place."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from tomli import loads

from tests.unit.sites import ROOT, WORDS, shaken, site
from wspilot.ensemble import Request, from_type, override, parse_ensemble
from wspilot.errors import UsageError
from wspilot.images import Image
from wspilot.model import Group

IMAGES = {
    "default": Image("default"),
    "small": Image("small", ready="console"),
    "huge": Image("huge", memory_mib=4096),
    "broken": Image("broken", fault="kernel: vmlinuz is not there"),
}
SITE = site('[site]\nmax_duration = "2d"\n')
HEAD = '[workspace]\nname = "one"\nduration = "1h"\n'
VM = HEAD + '[[group]]\nname = "vm"\ntype = "small"\n'


def parse(toml: str) -> Request:
    return parse_ensemble(loads(toml), SITE, IMAGES)


def test_a_group_gets_what_its_type_and_the_site_say() -> None:
    (group,) = parse(VM).groups
    assert group == Group("vm", "small", 1, 1, "default", 1, 128, 1024, ("private",), ready="agent")


def test_everything_that_a_group_may_say() -> None:
    request = parse(
        VM
        + 'count = 3\nmin = 2\nimage = "small"\nnics = ["public", "private"]\nplacement = "pack"\n'
        'roles = { provides = ["worker"], requires = ["worker"] }\n'
    )
    assert (request.name, request.duration_s) == ("one", 3600)
    assert request.groups == (
        Group("vm", "small", 3, 2, "small", 1, 128, 1024, ("public", "private"), ("worker",),
              ("worker",), "console", "pack"),
    )  # fmt: skip


def test_the_image_is_the_groups_else_the_types_else_the_sites() -> None:
    own = site(
        "[site]\ndefault_image = 'small'\n[[type]]\nname = 'a'\nmemory = '8GiB'\nimage = 'huge'\n"
        "[[type]]\nname = 'b'\nmemory = '1GiB'\n"
    )
    groups = "[[group]]\nname='x'\ntype='a'\nimage='default'\n[[group]]\nname='y'\ntype='a'\n"
    doc = loads(HEAD + groups + "[[group]]\nname='z'\ntype='b'\n")
    found = [group.image for group in parse_ensemble(doc, own, IMAGES).groups]
    assert found == ["default", "huge", "small"]


CATALOGUE = """
[[type]]
name = "worker"
memory = "1GiB"
image = "small"
nics = ["private", "public"]
ready = "process"
placement = "pack"
roles = { provides = ["worker"], requires = ["ce"] }
[[type]]
name = "plain"
memory = "2GiB"
"""


def inherited(groups: str) -> list[Group]:
    doc = loads(HEAD + "[[group]]\nname='ce'\ntype='plain'\nroles={provides=['ce']}\n" + groups)
    return list(parse_ensemble(doc, site(CATALOGUE), IMAGES).groups)


def test_a_group_inherits_from_its_type_what_it_does_not_say() -> None:
    ce, worker = inherited("[[group]]\nname = 'w'\ntype = 'worker'\ncount = 3\n")
    assert worker == Group("w", "worker", 3, 3, "small", 1, 1024, 0, ("private", "public"),
                           ("worker",), ("ce",), "process", "pack")  # fmt: skip
    assert (ce.nics, ce.ready, ce.placement) == (("private",), "agent", "spread")


def test_what_a_group_says_itself_replaces_what_its_type_says_key_by_key() -> None:
    _, worker = inherited(
        "[[group]]\nname = 'w'\ntype = 'worker'\nimage = 'default'\nnics = ['public']\n"
        "ready = 'agent'\nplacement = 'spread'\nroles = { requires = [] }\n"
    )
    assert (worker.image, worker.nics, worker.ready, worker.placement) == (
        "default", ("public",), "agent", "spread",
    )  # fmt: skip
    assert (worker.provides, worker.requires) == (("worker",), ())


def test_a_type_may_have_no_network_at_all() -> None:
    own = site("[[type]]\nname='a'\nmemory='1GiB'\nnics=[]\n")
    doc = loads(HEAD + "[[group]]\nname='x'\ntype='a'\n")
    assert parse_ensemble(doc, own, IMAGES).groups[0].nics == ()


def test_what_a_type_hands_down_is_checked_with_the_group() -> None:
    own = site("[[type]]\nname='a'\nmemory='1GiB'\nroles={requires=['se']}\n")
    with pytest.raises(UsageError, match=r"group\[0\]\.roles\.requires: nobody provides 'se'"):
        parse_ensemble(loads(HEAD + "[[group]]\nname='x'\ntype='a'\n"), own, IMAGES)


BAD = {
    "": 'workspace.duration: is missing: write duration = "2h"',
    HEAD: "group: there is none: write [[group]]",
    "workspace = 1": "workspace: must be a table",
    "[workspce]\na = 1": "workspce: unknown key; did you mean 'workspace'?",
    "[workspace]\nlength = '1h'": "workspace.length: unknown key",
    "[workspace]\nname = 'My Cluster'": "workspace.name: 'My Cluster' is not a name",
    "[workspace]\nname = '[red]x'": "workspace.name: '[red]x' is not a name",
    "[workspace]\nname = 'a/b'": "workspace.name: 'a/b' is not a name",
    '[workspace]\nname = "a\\nb"': "workspace.name: 'a\\nb' is not a name",
    HEAD + "[[group]]\ntype='small'\nname='../vm'": "group[0].name: '../vm' is not a name",
    HEAD + '[[group]]\ntype="small"\nname="a\\n"': "group[0].name: 'a\\n' is not a name",
    VM + 'image = "a\\nb"': "group[0].image: 'a\\nb' is not a name",
    VM + 'nics = ["a\\nb"]': "group[0].nics[0]: must be one line of text",
    VM + "nics = ['a/b']": "group[0].nics: no network 'a/b'",
    "[workspace]\nduration = 7200": "workspace.duration: 7200 is not a duration",
    "[workspace]\nduration = '0h'": "workspace.duration: '0h' is too short",
    "[workspace]\nduration = '3d'": "workspace.duration: 3d is over the site's limit of 2d",
    "group = 'vm'": "group: there is none: write [[group]]",
    "group = ['vm']": "group[0]: must be a table: write [[group]]",
    HEAD + "[[group]]\ntype = 'small'": "group[0].name: is missing",
    HEAD + "[[group]]\nname = 'a'": "group[0].type: is missing; known here: large, medium, small",
    HEAD + "[[group]]\nname='a'\ntype='smal'":
        "group[0].type: no lease type 'smal'; did you mean 'small'?",
    HEAD + "[[group]]\nname='a'\ntype=['small']":
        "group[0].type: must be one line of text, not ['small']",
    HEAD + "[[group]]\nname='a'\ntype={ x = 1 }": "group[0].type: must be one line of text",
    VM + "cpus = 3": "group[0].cpus: unknown key",
    VM + "cuont = 3": "group[0].cuont: unknown key; did you mean 'count'?",
    VM + "count = 0": "group[0].count: 0 is not between 1 and 10000",
    VM + "count = -4": "group[0].count: -4 is not between",
    VM + "count = true": "group[0].count: must be a whole number, not True",
    VM + "count = '4'": "group[0].count: must be a whole number, not '4'",
    VM + "count = 2.0": "group[0].count: must be a whole number, not 2.0",
    VM + "count = 10001": "group[0].count: 10001 is not between 1 and 10000",
    VM + "count = 5": "5 VMs with a node each are more than the site's 4 nodes",
    VM + "min = 0": "group[0].min: 0 is not between",
    VM + "count = 2\nmin = 3": "group[0].min: 3 is more than count, 2",
    VM + "image = 'smal'": "group[0].image: no image 'smal'; did you mean 'small'?",
    VM + "image = '../../etc'": "group[0].image: '../../etc' is not a name",
    VM + "image = 'huge'": "group[0].image: huge needs 4096 MiB, type small has 128",
    VM + "image = 'broken'": "group[0].image: broken cannot be used: kernel: vmlinuz is not there",
    VM + "nics = 'private'": "group[0].nics: must be a list, not 'private'",
    VM + "nics = ['privat']": "group[0].nics: no network 'privat'; did you mean 'private'?",
    VM + "nics = ['public', 'public']": "group[0].nics: public is there twice",
    VM + "nics = [1]": "group[0].nics[0]: must be one line of text, not 1",
    VM + "ready = 'agnet'": "group[0].ready: 'agnet' is not one of agent, address, con",
    VM + "placement = 'packed'": "group[0].placement: 'packed' is not one of spread, pack",
    VM + "roles = ['ce']": "group[0].roles: must be a table",
    VM + "roles = { provide = [] }": "group[0].roles.provide: unknown key; did you mean 'prov",
    VM + "roles = { provides = 'ce' }": "group[0].roles.provides: must be a list, not 'ce'",
    VM + "roles = { provides = ['C E'] }": "group[0].roles.provides[0]: 'C E' is not a name",
    VM + "roles = { requires = ['se'] }": "group[0].roles.requires: nobody provides 'se'",
    VM + "roles = { provides = ['worker'], requires = ['worke'] }":
        "nobody provides 'worke'; did you mean 'worker'?",
    VM + "[[group]]\nname = 'vm'\ntype = 'small'": "group: 2 groups are named vm",
    VM + "count = 6000\nplacement = 'pack'\n[[group]]\nname='b'\ntype='small'\ncount = 6000\n"
         "placement = 'pack'": "group: 12000 VMs are over the limit of 10000",
    VM.replace("1h", "47h"): "group[0].type: small may be leased for at most 1d",
}  # fmt: skip


@pytest.mark.parametrize("toml", BAD)
def test_a_mistake_is_told_with_its_place(toml: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(toml)
    assert BAD[toml] in caught.value.message
    assert caught.value.message.startswith("ensemble: ") and caught.value.message.isprintable()


def test_all_mistakes_are_told_at_once_even_beside_a_wrong_type() -> None:
    toml = "[workspace]\nnmae = 'x'\n[[group]]\nname = 'A'\ntype = 'smal'\ncount = 0\nimage = 'x'\n"
    with pytest.raises(UsageError) as caught:
        parse(toml + "[[group]]\nname = 'b'\ntype = 'small'\nnics = ['x']\n")
    for place in ("workspace.nmae", "workspace.duration", "group[0].name", "group[0].type",
                  "group[0].count", "group[0].image", "group[1].nics"):  # fmt: skip
        assert f"{place}: " in caught.value.message


def test_ready_by_address_needs_a_nic() -> None:
    qemu = site("[site]\nvmm = 'qemu'\n[network.own]\ncidr='10.2.0.0/24'\n")
    doc = VM + "ready = 'address'\n"
    images = {"default": Image("default", "kernel")}
    parse_ensemble(loads(doc + "nics = ['own']"), qemu, images)
    parse_ensemble(loads(doc), qemu, images)  # the site's first network
    with pytest.raises(UsageError, match=r"group\[0\]\.ready: address needs a NIC"):
        parse_ensemble(loads(doc + "nics = []"), qemu, images)


def test_ten_thousand_faulty_groups_cost_little_time_and_text() -> None:
    entry = {"name": "vm", "type": "nope", "nics": ["x" * 100_000], "roles": {"requires": ["r"]}}
    doc = {"workspace": {"duration": "1h"}, "group": [entry] * 10_000}
    began = time.process_time()
    with pytest.raises(UsageError, match="faults more") as caught:
        parse_ensemble(doc, SITE, IMAGES)
    assert len(caught.value.message) < 8000 and time.process_time() - began < 5


def test_nothing_but_a_usage_error_comes_of_any_document() -> None:
    rng = random.Random(11)
    base: dict[str, Any] = loads((ROOT / "examples/osg-cluster.toml").read_text())
    refused = 0
    for _ in range(1000):
        try:
            parse_ensemble(shaken(base, rng), SITE, IMAGES)
        except UsageError as error:
            refused += 1
            assert error.message.isprintable()
    assert refused > 300
    for word in WORDS:
        with pytest.raises(UsageError):
            parse_ensemble({"workspace": word, "group": word}, SITE, IMAGES)


# -- from the command line


def cli(**change: Any) -> Request:
    given: dict[str, Any] = {"type": "small", "image": "", "count": 2, "duration": 60, "name": ""}
    return from_type(**{**given, **change}, site=SITE, images=IMAGES)


def test_a_lease_type_makes_one_group_on_the_first_network() -> None:
    request = cli(name="mine", image="small")
    assert (request.name, request.duration_s) == ("mine", 60)
    assert [(g.name, g.count, g.nics, g.image) for g in request.groups] == [
        ("vm", 2, ("private",), "small")
    ]
    assert (cli().name, cli().groups[0].image) == ("", "default")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"type": "smal"}, "deploy: type: no lease type 'smal'; did you mean 'small'?"),
        ({"count": 0}, "deploy: count: 0 is not between"),
        ({"image": "nope"}, "deploy: image: no image 'nope'"),
        ({"duration": 0}, "deploy: duration: '0s' is too short"),
        ({"duration": -60}, "deploy: duration: '-60s' is not a duration"),
        ({"duration": 3 * 86400}, "deploy: duration: 3d is over the site's limit"),
        ({"name": "A/B"}, "deploy: name: 'A/B' is not a name"),
    ],
)
def test_a_mistake_on_the_command_line_names_the_option(change: Any, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        cli(**change)
    assert words in caught.value.message


def test_name_and_duration_given_apart_override_the_file() -> None:
    doc = loads(VM)
    request = parse_ensemble(override(doc, "two", "2h"), SITE, IMAGES)
    assert (request.name, request.duration_s) == ("two", 7200)
    assert parse_ensemble(override(doc), SITE, IMAGES).name == "one"
    assert doc["workspace"]["name"] == "one"
    with pytest.raises(UsageError, match="workspace: must be a table"):
        parse_ensemble(override({"workspace": 1}, "two"), SITE, IMAGES)
