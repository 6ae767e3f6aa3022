"""Every example works as it is, and docs/config.md says what the code does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tomli import loads

from tests.unit.sites import HOME, ROOT, site
from wspilot import config, sitekeys
from wspilot.daemon.policy import plan, walltime
from wspilot.ensemble import GROUP_KEYS, WORKSPACE_KEYS, parse_ensemble
from wspilot.images import KEYS as IMAGE_KEYS
from wspilot.images import Image, load_images
from wspilot.settings import Budget, Images, Policy
from wspilot.text import format_duration, format_size

ENSEMBLES = sorted((ROOT / "examples").glob("*.toml"))
SITES = sorted((ROOT / "examples" / "sites").glob("*.toml"))


def test_the_examples_are_there() -> None:
    assert {"single", "osg-cluster", "mpi-cluster", "teaching-room"} <= {p.stem for p in ENSEMBLES}
    assert {"local-sim", "local-qemu", "slurm-qemu", "torque-xen"} <= {p.stem for p in SITES}


@pytest.mark.parametrize("path", ENSEMBLES, ids=lambda path: path.stem)
def test_every_ensemble_deploys_on_the_built_in_site(path: Path) -> None:
    built_in = site()
    request = parse_ensemble(loads(path.read_text()), built_in, load_images(HOME, built_in))
    slots = plan(request, built_in, lambda group: 0, lambda nodes: 5.0)
    assert sum(len(slot.members) for slot in slots) == sum(g.count for g in request.groups)
    assert sum(slot.nodes for slot in slots) <= 4  # all at once
    assert walltime(built_in, request.duration_s, len(slots)).total_s > request.duration_s


def test_the_cluster_of_the_paper_is_ce_se_and_two_workers() -> None:
    doc = loads((ROOT / "examples" / "osg-cluster.toml").read_text())
    groups = parse_ensemble(doc, site(), load_images(HOME, site())).groups
    assert [(group.name, group.count) for group in groups] == [("ce", 1), ("se", 1), ("worker", 2)]


@pytest.mark.parametrize("path", SITES, ids=lambda path: path.stem)
def test_every_site_is_right_and_takes_the_single_vm(path: Path) -> None:
    made = config.load(path, HOME)
    assert path.stem == f"{made.lrm}-{made.vmm}" and made.source == str(path)
    doc = loads((ROOT / "examples" / "single.toml").read_text())
    request = parse_ensemble(doc, made, {"default": Image("default", "kernel")})
    assert len(plan(request, made, lambda group: 136, lambda nodes: 0.0)) == 1


def test_local_sim_is_the_built_in_site_written_out() -> None:
    made = config.load(ROOT / "examples" / "sites" / "local-sim.toml", HOME)
    assert replace(made, source="x") == replace(site(), source="x")


# -- docs/config.md

Table = Mapping[str, tuple[str, str, str]]  # key -> value, default, meaning


def reference() -> Mapping[str, Table]:
    """Its tables, by the heading above them."""
    found: dict[str, dict[str, tuple[str, str, str]]] = {}
    heading = ""
    for line in (ROOT / "docs" / "config.md").read_text().splitlines():
        if line.startswith("#"):
            heading = line.strip("# ")
        row = re.fullmatch(r"\| `([a-z_0-9]+)` \| (.*?) \| (.*?) \| (.*?) ?\|", line)
        if row:
            found.setdefault(heading, {})[row[1]] = (row[2], row[3], row[4])
    return found


DOCUMENTED: Mapping[str, Mapping[str, object]] = {
    "[site]": sitekeys.SITE_KEYS,
    "[images]": sitekeys.IMAGES_KEYS,
    "[budget]": sitekeys.BUDGET_KEYS,
    "[policy]": sitekeys.POLICY_KEYS,
    "[[type]]": sitekeys.TYPE_KEYS,
    "[network.NAME]": sitekeys.NETWORK_KEYS,
    **{f"[lrm.{name}]": keys for name, keys in sitekeys.LRM_KEYS.items()},
    **{f"[vmm.{name}]": keys for name, keys in sitekeys.VMM_KEYS.items() if keys},
    "[workspace]": WORKSPACE_KEYS,
    "[[group]]": GROUP_KEYS,
    "roles": sitekeys.ROLE_KEYS,
    "image.json": dict.fromkeys(IMAGE_KEYS),
}


@pytest.mark.parametrize("heading", DOCUMENTED)
def test_the_reference_has_every_key_and_no_other(heading: str) -> None:
    assert set(reference()[heading]) == set(DOCUMENTED[heading])


def test_the_reference_has_no_section_that_is_not_checked() -> None:
    assert set(reference()) == set(DOCUMENTED)


def test_the_budget_of_the_reference_is_the_built_in_one() -> None:
    for key, (_, default, _) in reference()["[budget]"].items():
        assert default == f"`{format_duration(getattr(Budget(), f'{key}_s'))}`", key


def test_the_images_of_the_reference_are_kept_as_built_in() -> None:
    made = Images()
    shown = {key: default.strip("`") for key, (_, default, _) in reference()["[images]"].items()}
    assert shown == {
        "cache": format_size(made.cache_mib), "share": str(made.share).lower(),
        "save_rate": format_size(made.save_rate_mib),
    }  # fmt: skip


def test_the_defaults_of_the_reference_are_those_in_force() -> None:
    tables, torque = reference(), site("[site]\nlrm = 'torque'")
    for key, (_, default, _) in tables["[site]"].items():
        value = getattr(site(), sitekeys.SITE_KEYS[key][0])
        if key in ("lrm", "vmm", "default_image"):
            assert default == f"`{value}`"
        elif key in ("keep", "max_duration"):
            assert default == f"`{format_duration(value)}`"
        elif key in ("spool", "store", "images"):
            assert default == f"`HOME/{value.relative_to(HOME)}`"
        elif key in ("allow_root", "guardian", "stop_share"):
            assert default == str(value).lower()
    assert tables["[site]"]["node_python"][1] == f"`{torque.node_python}`"
    for lrm, s in (("torque", torque), ("local", site())):
        table = tables[f"[lrm.{lrm}]"]
        polls = (f"{s.poll_s:g}", f"{s.min_poll_s:g}", str(s.max_jobs))
        shown = tuple(table[key][1].strip("` s") for key in ("poll", "min_poll", "max_jobs"))
        assert shown == polls


def test_the_policy_of_the_reference_is_the_built_in_one() -> None:
    for key, (_, default, _) in reference()["[policy]"].items():
        value = getattr(Policy(), sitekeys.POLICY_KEYS[key][0])
        if key in ("pad", "hold", "lease"):
            assert default == f"`{format_duration(value)}`", key
        elif key != "type":
            assert default.strip("`") == str(value), key


@pytest.mark.parametrize(
    ("key", "words"),
    [("lrm", sitekeys.LRMS), ("vmm", sitekeys.VMMS), ("adapter", sitekeys.ADAPTERS)],
)
def test_the_words_of_the_reference_are_all_words(key: str, words: tuple[str, ...]) -> None:
    assert reference()["[site]"][key][0] == ", ".join(f"`{word}`" for word in words)


def test_the_links_of_the_reference_lead_somewhere() -> None:
    text = (ROOT / "docs" / "config.md").read_text()
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (ROOT / "docs" / target).exists(), target
