"""The site's TOML: defaults, the search path, and every way to get it wrong, in words."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
from tomli import loads

from tests.unit.sites import HOME, ROOT, shaken, site
from wspilot.config import check, load
from wspilot.daemon.lrm import open_driver
from wspilot.daemon.lrm.site import BatchSettings, LocalSettings, local_settings
from wspilot.errors import UsageError
from wspilot.settings import Budget
from wspilot.sitekeys import LRM_KEYS


def test_with_no_file_the_defaults_work_anywhere() -> None:
    s = site()
    assert (s.lrm, s.vmm, s.adapter, s.nodes, s.poll_s, s.min_poll_s) == (
        "local", "sim", "sim", 4, 0.5, 0.2,
    )  # fmt: skip
    assert list(s.types) == ["small", "medium", "large"]
    assert list(s.networks) == ["private", "public"]
    for kind in s.types.values():
        assert kind.cpus <= (s.node_cpus or 0) and kind.memory_mib <= (s.node_memory_mib or 0)
    assert (s.spool, s.store, s.images_dir) == (HOME / "spool", HOME / "store", HOME / "images")


def test_the_built_in_batch_system_has_the_nodes_that_requests_are_checked_against() -> None:
    for toml in ("", '[lrm.local]\nnodes = 7\ncores = 16\nmemory = "1TiB"\ngrace = "3s"\n'):
        s = site(toml)
        made = local_settings(s.lrm_settings)
        assert (made.nodes, made.cores, made.memory_mib) == (
            s.nodes, s.node_cpus, s.node_memory_mib,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("lrm", "settings"),
    [("torque", BatchSettings), ("slurm", BatchSettings), ("local", LocalSettings)],
)
def test_every_setting_of_a_driver_has_a_key_and_none_is_made_up(lrm: str, settings: type) -> None:
    known = {item.name.removesuffix("_s").removesuffix("_mib") for item in fields(settings)}
    if lrm == "slurm":
        known -= {"start", "flavour"}  # Torque's
    known -= {"names"}  # of `nodes`
    assert set(LRM_KEYS[lrm]) == known | {"poll", "min_poll", "max_jobs"}


def test_the_built_in_driver_takes_the_checked_table() -> None:
    s = site('[lrm.local]\nmemory = "4GiB"\ngrace = "9s"\n')
    assert open_driver(s.lrm, s.lrm_settings, HOME).grace_s(1) == 9.0


def test_a_whole_site() -> None:
    s = site(
        """
        [site]
        lrm = "torque"
        vmm = "qemu"
        spool = "/shared/wspilot"
        jobs = "per-node"
        idle_exit = "8h"
        keep = "1d"
        stop_share = 0.5
        node_memory = "2TiB"
        [lrm.torque]
        start = "srun"
        queue = "batch"
        priority = -5
        extra = ["#PBS -A physics"]
        poll = "20s"
        max_jobs = 7
        [vmm.qemu]
        accel = "tcg"
        [budget]
        boot = "3m"
        save = "0s"
        [[type]]
        name = "small"
        memory = "1GiB"
        [network.lab]
        way = "bridge"
        bridge = "br0"
        cidr = "192.0.2.0/24"
        gateway = "192.0.2.254"
        dns = ["192.0.2.1"]
        """
    )
    assert (s.adapter, s.node_python, s.jobs) == ("none", "python3", "per-node")
    assert (s.idle_exit_s, s.keep_s, s.stop_share) == (8 * 3600, 86400, 0.5)
    assert (s.poll_s, s.min_poll_s, s.max_jobs) == (20.0, 10.0, 7)
    assert (s.nodes, s.node_cpus, s.node_memory_mib) == (None, None, 2 << 20)
    assert (s.budget.boot_s, s.budget.save_s, s.budget.slack_s) == (180, 0, Budget().slack_s)
    assert s.types["small"].max_duration_s == s.max_duration_s
    assert s.vmm_options == {"accel": "tcg"}
    assert s.lrm_settings["extra"] == ["#PBS -A physics"]
    assert s.networks["lab"].spec()["prefix"] == 24
    assert list(s.networks) == ["lab"]  # the built-in ones are not added to a site's own


def test_listed_hosts_are_the_nodes_and_their_python_is_not_the_daemons() -> None:
    s = site("[lrm.local]\nnodes = ['n1', 'n2', 'n3']\nvia = ['ssh', '{node}', '{command}']")
    made = local_settings(s.lrm_settings)
    assert (s.nodes, made.nodes, made.names) == (3, 3, ("n1", "n2", "n3"))
    assert made.via == ("ssh", "{node}", "{command}") and s.node_python == "python3"


@pytest.mark.parametrize(("vmm", "adapter"), [("xen", "balloon"), ("qemu", "none"), ("sim", "sim")])
def test_the_adapter_is_what_the_vmm_wants(vmm: str, adapter: str) -> None:
    assert site(f'[site]\nvmm = "{vmm}"').adapter == adapter
    assert site(f'[site]\nvmm = "{vmm}"\nadapter = "none"').adapter == "none"


NET = '[network.a]\ncidr = "10.0.0.0/24"\n'
TYPE = '[[type]]\nname = "a"\nmemory = "1GiB"\n'
BAD = {
    # unknown keys name the nearest one
    '[sight]\nlrm = "local"': "sight: unknown key; did you mean 'site'?",
    '[site]\nlmr = "local"': "site.lmr: unknown key; did you mean 'lrm'?",
    "[lrm.slrum]": "lrm.slrum: unknown key; did you mean 'slurm'?",
    "[lrm.torque]\nque = 'x'": "lrm.torque.que: unknown key; did you mean 'queue'?",
    "[lrm.slurm]\nstart = 'srun'": "lrm.slurm.start: unknown key; known here: account",
    "[vmm.qmu]": "vmm.qmu: unknown key; did you mean 'qemu'?",
    "[vmm.sim]\nboot = 1": "vmm.sim.boot: unknown key; did you mean 'boot_s'?",
    "[budget]\nbooot = '1m'": "budget.booot: unknown key; did you mean 'boot'?",
    TYPE + "memroy = '1GiB'": "type[0].memroy: unknown key; did you mean 'memory'?",
    NET + "brige = 'br0'": "network.a.brige: unknown key; did you mean 'bridge'?",
    '["\\u001b[31mred"]\na = 1': "[31mred: unknown key",
    TYPE + "nics = ['privat']": "type[0].nics: no network 'privat'; did you mean 'private'?",
    TYPE + "nics = 'private'": "type[0].nics: must be a list, not 'private'",
    TYPE + "ready = 'soon'": "type[0].ready: 'soon' is not one of agent, address",
    TYPE + "placement = 'alone'": "type[0].placement: 'alone' is not one of spread, pack",
    TYPE + "roles = { provide = ['x'] }": "type[0].roles.provide: unknown key; did you mean",
    TYPE + "roles = { provides = ['x/y'] }": "type[0].roles.provides[0]: 'x/y' is not a name",
    # words
    "[site]\nlrm = 'pbs'": "site.lrm: 'pbs' is not one of torque, slurm, local",
    "[site]\nlrm = ['local']": "site.lrm: ['local'] is not one of",
    "[site]\nvmm = 'kvm'": "site.vmm: 'kvm' is not one of xen, qemu, sim",
    "[site]\nadapter = 'x'": "site.adapter: 'x' is not one of balloon, none, sim",
    "[site]\nadapter = 'balloon'": "site.adapter: balloon needs vmm xen, not sim",
    "[site]\njobs = 'many'": "site.jobs: 'many' is not one of per-workspace, per-node",
    "[lrm.torque]\nstart = 'rsh'": "lrm.torque.start: 'rsh' is not one of pbsdsh, srun",
    "[lrm.slurm]\nqueue = '-x'": "lrm.slurm.queue: must be one word, not '-x'",
    "[lrm.slurm]\nqueue = 'a;b'": "lrm.slurm.queue: must be one word",
    "[lrm.slurm]\npriority = true": "lrm.slurm.priority: must be a whole number, not True",
    "[lrm.torque]\npriority = 2000": "lrm.torque.priority: 2000 is not between -1024 and 1023",
    "[lrm.torque]\nextra = '#PBS'": "lrm.torque.extra: must be a list, not '#PBS'",
    "[lrm.torque]\ndrop = [3]": "lrm.torque.drop[0]: must be one line of text, not 3",
    '[lrm.torque]\nextra = ["a\\nb"]': "lrm.torque.extra[0]: must be one line of text",
    "[lrm.local]\nnodes = 0": "lrm.local.nodes: 0 is not between 1 and 1000",
    "[lrm.local]\nnodes = []": "lrm.local.nodes: names no node",
    "[lrm.local]\nnodes = ['a', 'a']": "lrm.local.nodes: a is there 2 times",
    "[lrm.local]\nnodes = ['a', 'b c']": "lrm.local.nodes[1]: 'b c' is not the name of a node",
    "[lrm.local]\nnodes = ['a,b']": "lrm.local.nodes[0]: 'a,b' is not the name of a node",
    "[lrm.local]\nnodes = ['7']": "lrm.local.nodes[0]: '7' is not the name of a node",
    "[lrm.local]\nvia = ['ssh', '{node}']": "lrm.local.via: needs the hosts' names",
    "[lrm.local]\nnodes = ['a']\nvia = ['ssh']": "lrm.local.via: no word has {node} in it",
    "[vmm.qemu]\naccel = 'hvf'": "vmm.qemu.accel: 'hvf' is not one of auto, tcg, kvm",
    "[vmm.sim]\nboot_s = '2s'": "vmm.sim.boot_s: must be a number from 0 to 86400, not '2s'",
    "[vmm.sim]\nfail = 1": "vmm.sim.fail: must be a table",
    # tables and lists
    "site = 1": "site: must be a table",
    "lrm = 'slurm'": "lrm: must be a table",
    "[lrm]\nlocal = 1": "lrm.local: must be a table",
    "type = 1": "type: must be a list of lease types: write [[type]]",
    "type = []": "type: must be a list of lease types",
    "[type]\nname = 'a'": "type: must be a list of lease types",
    "type = [1]": "type[0]: must be a table",
    "network = []": "network: must be a table",
    "[network]\na = 1": "network.a: must be a table: write [network.NAME]",
    # durations, sizes, numbers
    "[site]\nkeep = 7": "site.keep: 7 is not a duration (write it with its unit: 90s",
    "[site]\nkeep = '0s'": "site.keep: '0s' is too short; at least 1s",
    "[site]\nidle_exit = '-1h'": "site.idle_exit: '-1h' is not a duration",
    "[site]\nmax_duration = '400d'": "site.max_duration: 400d is more than a year",
    "[site]\nstop_share = 0": "site.stop_share: must be a number from 0.01 to 0.99, not 0",
    "[site]\nstop_share = nan": "site.stop_share: must be a number from 0.01 to 0.99, not nan",
    "[site]\nstop_share = true": "site.stop_share: must be a number",
    "[site]\nguardian = 1": "site.guardian: must be true or false, not 1",
    "[site]\nnodes = 0": "site.nodes: 0 is not between 1 and 100000",
    "[site]\nnode_memory = '0MiB'": "site.node_memory: '0MiB' is not between 1MiB and",
    "[budget]\nboot = 60": "budget.boot: 60 is not a duration",
    "[budget]\nboot = '0s'": "budget.boot: '0s' is too short; at least 1s",
    "[lrm.local]\npoll = '0s'": "lrm.local.poll: '0s' is too short",
    "[site]\nlrm = 'slurm'\n[lrm.slurm]\npoll = '2s'":
        "lrm.slurm.poll: 2s is less than min_poll, 10s",
    "[lrm.local]\nnodes = true": "lrm.local.nodes: must be a whole number, not True",
    "[lrm.local]\ncores = -1": "lrm.local.cores: -1 is not between 1 and 4096",
    "[lrm.local]\nmemory = 512": "lrm.local.memory: 512 is not a size (write it as 512MiB or 2GiB)",
    f"[lrm.local]\nmemory = '{'9' * 5000}MiB'": "lrm.local.memory: '9999",
    # paths
    "[site]\nspool = 'spool'": "site.spool: 'spool' must be an absolute path",
    "[site]\nstore = '~nosuchuser/x'": "site.store: '~nosuchuser/x': there is no such user",
    '[site]\nimages = "/a\\u0000b"': "site.images: must be one line of text",
    '[site]\nnode_python = ""': "site.node_python: must be one line of text, not ''",
    # lease types
    "[[type]]\nname = 'a'": "type[0].memory: is missing",
    "[[type]]\nmemory = '1GiB'": "type[0].name: is missing",
    TYPE + "cpus = 0": "type[0].cpus: 0 is not between 1 and 4096",
    TYPE + "cpus = 1.5": "type[0].cpus: must be a whole number, not 1.5",
    TYPE + TYPE: "type[1].name: a is there twice",
    TYPE + "cpus = 9": "type[0].cpus: 9 are more than the 8 of any node (a)",
    "[[type]]\nname = 'a'\nmemory = '9GiB'": "type[0].memory: 9216 MiB are more than the 8192 of",
    TYPE + "image = '../x'": "type[0].image: '../x' is not a name",
    # networks
    "[network.a]\nway = 'user'": "network.a.cidr: is missing",
    "[network.a]\ncidr = '10.0.0.1/24'": "network.a.cidr: 10.0.0.1/24 has host bits set",
    "[network.a]\ncidr = 'fd00::/64'": "network.a.cidr: Expected 4 octets",
    "[network.a]\ncidr = '10.0.0.0/31'": "network.a.cidr: 10.0.0.0/31 has no room for guests",
    "[network.a]\ncidr = '0.0.0.0/0'": "network.a.cidr: 0.0.0.0/0 is larger than any",
    "[network.a]\ncidr = 10": "network.a.cidr: must be one line of text, not 10",
    NET + "[network.b]\ncidr = '10.0.0.128/25'":
        "network.b.cidr: 10.0.0.128/25 overlaps a's 10.0.0.0/24",
    NET + "way = 'bridge'": "network.a.bridge: is missing",
    NET + "bridge = 'br0'": "network.a.bridge: needs way = \"bridge\"",
    NET + "way = 'bridge'\nbridge = 'br0;reboot'": "network.a.bridge: must be a device's name",
    NET + "gateway = '10.0.1.1'": "network.a.gateway: 10.0.1.1 is no host of 10.0.0.0/24",
    NET + "gateway = '10.0.0.255'": "network.a.gateway: 10.0.0.255 is no host of",
    NET + "dns = ['ns1']": "network.a.dns[0]: Expected 4 octets",
    NET + "deny = ['10.0.0.1/8']": "network.a.deny[0]: 10.0.0.1/8 has host bits set",
    NET + "restrict = 'no'": "network.a.restrict: must be true or false, not 'no'",
    '[network."b c"]\ncidr = "10.0.0.0/24"': "network.name: 'b c' is not a name",
}  # fmt: skip


@pytest.mark.parametrize("toml", BAD)
def test_a_mistake_is_told_with_its_place(toml: str) -> None:
    with pytest.raises(UsageError) as caught:
        site(toml)
    assert caught.value.message.startswith("site.toml: ")
    assert BAD[toml] in caught.value.message
    assert caught.value.message.isprintable() and len(caught.value.message) < 1000


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        site(
            "[site]\nlrm = 'pbs'\nvnm = 'x'\n[lrm.local]\nmemory = 5\n[budget]\nboot = 1\n"
            "[[type]]\nname = 'A'\n[network.a]\ncidr = 'x'"
        )
    for place in ("site.lrm", "site.vnm", "lrm.local.memory", "budget.boot", "type[0].name",
                  "type[0].memory", "network.a.cidr"):  # fmt: skip
        assert f"{place}: " in caught.value.message


def test_a_table_of_another_batch_system_is_checked_too() -> None:
    with pytest.raises(UsageError, match=r"lrm\.torque\.start"):
        site('[site]\nlrm = "slurm"\n[lrm.torque]\nstart = "rsh"')


def test_rubbish_by_the_thousand_gives_a_short_message_in_short_time() -> None:
    toml = "[site]\n" + "\n".join(f"{'k' * 50}{n} = {n}" for n in range(5000))
    began = time.process_time()
    with pytest.raises(UsageError, match="and 4980 faults more") as caught:
        site(toml)
    assert len(caught.value.message) < 8000 and time.process_time() - began < 2


def test_nothing_but_a_usage_error_comes_of_any_document() -> None:
    rng = random.Random(7)
    base = loads((ROOT / "examples/sites/torque-xen.toml").read_text())
    for _ in range(1000):
        doc = shaken(base, rng)
        try:
            check(doc, HOME, "x")
        except UsageError as error:
            assert error.message.isprintable()


# -- files


def test_the_first_file_of_the_search_path_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, user = tmp_path / "named.toml", tmp_path / "xdg" / "wspilot" / "site.toml"
    user.parent.mkdir(parents=True)
    for n, path in enumerate((named, user)):
        path.write_text(f"[lrm.local]\nnodes = {n + 20}\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("WSPILOT_CONFIG", raising=False)
    assert (load(home=HOME).nodes, load(home=HOME).source) == (21, str(user))
    monkeypatch.setenv("WSPILOT_CONFIG", str(named))
    assert load(home=HOME).nodes == 20
    assert load(user, HOME).nodes == 21


def test_a_named_file_that_is_missing_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WSPILOT_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(UsageError, match=r"none\.toml: cannot be read: No such file"):
        load(home=HOME)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[site]\nlrm = local\n", "not TOML: .*line 2"),
        (b"[site\n", "not TOML: .*line 1"),
        (b"\xff\xfe\x00", "not TOML: .*utf-8"),
        (b"a = " + b"[" * 50_000, "not TOML"),
        (b"#" * (1 << 21), "larger than 1 MiB"),
        (b"[site]\nlrn = 'x'\n", "site.toml: site.lrn: unknown key"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "site.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        load(path, HOME)
    assert str(path) in caught.value.message


def test_a_directory_in_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        load(tmp_path, HOME)


def test_reading_a_configuration_loads_neither_sh_nor_the_daemon() -> None:
    code = (
        "import sys, wspilot.config; wspilot.config.load();"
        "bad = {'sh', 'textual', 'tinydb', 'watchdog', 'wspilot.daemon'} & set(sys.modules);"
        "assert not bad, bad"
    )
    env = {"HOME": "/nonexistent", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20, env=env)
