"""The ensemble builder through the pilot: form and TOML, groups, files, and the deployment."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomllib
from textual.widgets import Input, OptionList, Select, Static

from tests.tui.builder import Bench, Gated, bench
from tests.tui.stage import painted, told
from wspilot.tui.builder import files
from wspilot.tui.builder.area import TomlArea
from wspilot.tui.builder.form import WORKSPACE, Groups
from wspilot.tui.screens.choose import Choose
from wspilot.tui.screens.help import Help
from wspilot.tui.screens.load import Load
from wspilot.tui.screens.main import MainScreen
from wspilot.tui.screens.paper import Paper

OSG = (Path(__file__).parents[2] / "examples" / "osg-cluster.toml").read_text("utf-8")


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


# -- form and TOML


async def test_it_opens_with_something_that_can_be_deployed() -> None:
    async with bench() as one:
        assert one.state.endswith("can be deployed: F5")
        assert one.groups == ["vm             1 x small      default image"]
        assert one.doc == {"workspace": {"duration": "2h"},
                           "group": [{"name": "vm", "type": "small", "count": 1}]}  # fmt: skip


FIELDS = (
    ("w-name", "osg", "name", "osg"),
    ("w-duration", "90m", "duration", "90m"),
    ("g-name", "worker", "name", "worker"),
    ("g-count", "12", "count", 12),
    ("g-count", "many", "count", "many"),
    ("g-min", "3", "min", 3),
    ("g-nics", "public, private", "nics", ["public", "private"]),
    ("g-provides", "ce se", "roles", {"provides": ["ce", "se"]}),
    ("g-requires", "files", "roles", {"requires": ["files"]}),
)


async def test_every_field_is_written_into_the_toml_and_taken_out_again() -> None:
    async with bench() as one:
        for field, typed, key, value in FIELDS:
            for text in (typed, ""):
                await one.type(field, text)
                table = one.doc["workspace"] if field[0] == "w" else one.doc["group"][0]
                assert table.get(key) == (value if text else None), (field, text)
                assert one.field(field) == text, "nobody's text is changed while it is typed"


async def test_every_choice_is_written_into_the_toml_and_taken_out_again() -> None:
    wanted = {"type": "large", "image": "root-6", "placement": "pack", "ready": "console"}
    async with bench() as one:
        for name, value in wanted.items():
            select = one.screen.query_one(f"#g-{name}", Select)
            for chosen in (value, " "):
                values = [choice for _, choice in select._options]
                select.focus()
                await one.press("enter", "home", *["down"] * values.index(chosen), "enter")
                assert one.doc["group"][0].get(name) == (None if chosen == " " else value)


async def test_what_is_typed_key_by_key_stands_in_the_toml() -> None:
    async with bench() as one:
        await one.press(*"ab", "minus", *"c2", "tab", "backspace", "backspace", *"90m")
        assert one.doc["workspace"] == {"name": "ab-c2", "duration": "90m"}
        assert one.text.startswith('[workspace]\nname = "ab-c2"\nduration = "90m"\n')


async def test_the_form_follows_the_toml() -> None:
    async with bench() as one:
        await one.write(
            '[workspace]\nname = "a"\nduration = "1h30m"\n[[group]]\nname = "x"\ncount = 3\n'
            'min = 2\ntype = "medium"\nimage = "small"\nnics = ["public"]\nready = "process"\n'
            'placement = "pack"\nroles = { provides = ["p"], requires = ["p", "p"] }\n'
        )
        fields = ("w-name", "w-duration", "g-name", "g-count", "g-min", "g-type", "g-image",
                  "g-nics", "g-ready", "g-placement", "g-provides", "g-requires")  # fmt: skip
        assert [one.field(name) for name in fields] == [
            "a", "1h30m", "x", "3", "2", "medium", "small", "public", "process", "pack", "p", "p, p"
        ]  # fmt: skip
        await one.write("[workspace]\n")
        assert one.field("w-duration") == "" and one.groups == ["no group yet: a adds one"]


async def test_keys_that_come_faster_than_the_toml_follows_are_all_there() -> None:
    async with bench() as one:
        name = one.screen.query_one("#w-name", Input)
        for n in range(1, 20):  # as many changes, before the form has heard of the first one
            name.value = "a" * n
        await one.checked()
        assert one.field("w-name") == one.doc["workspace"]["name"] == "a" * 19


async def test_letters_that_come_with_the_sites_answer_or_in_two_fields_at_once_are_kept() -> None:
    async with bench() as one:
        name, duration = (one.screen.query_one(f"#w-{word}", Input) for word in WORKSPACE)
        name.value = "osg"
        one.form.offer({}, ["what the site has"])  # drawn again before the letters are heard
        await one.checked()
        assert one.field("w-name") == one.doc["workspace"]["name"] == "osg"
        name.value, duration.value = "osg-2", "90m"
        await one.checked()
        assert (one.field("w-name"), one.field("w-duration")) == ("osg-2", "90m")
        assert one.doc["workspace"] == {"name": "osg-2", "duration": "90m"}


async def test_letters_and_a_choice_belong_to_the_group_in_which_they_were_made() -> None:
    async with bench() as one:
        await one.write(OSG)
        one.screen.query_one("#g-name", Input).value = "door"
        one.screen.query_one("#g-type", Select).value = "large"
        one.screen.query_one(Groups).highlighted = 1
        await one.checked()
        one.screen.query_one("#g-name", Input).value = "store"
        one.screen.action_group(2)
        await one.checked()
        assert [group["name"] for group in one.doc["group"]] == ["door", "store", "worker"]
        assert [group["type"] for group in one.doc["group"]][:2] == ["large", "medium"]
        assert one.field("g-name") == "worker"


async def test_a_letter_just_before_f5_is_not_left_out() -> None:
    async with bench() as one:
        await one.type("w-name", "mine")
        one.screen.query_one("#w-name", Input).value = "mine2"
        one.screen.action_deploy()
        await one.until(lambda: "It is still being checked" in told(one.app)[-1])
        await one.checked()
        assert not any("token" in given for _, given in one.source.calls)
        await one.press("f5")
        await one.until(lambda: isinstance(one.app.screen, MainScreen))
        sent = [given["ensemble"] for _, given in one.source.calls if "token" in given]
        assert [doc["workspace"]["name"] for doc in sent] == ["mine2"]


@pytest.mark.parametrize("size", [(80, 24), (116, 30), (200, 60)])
async def test_the_lease_type_is_read_in_full_and_its_size_where_it_is_chosen(
    size: tuple[int, int],
) -> None:
    async with bench(size=size) as one:
        await one.write('[workspace]\n[[group]]\nname = "a"\ntype = "medium"\n')
        row = next(line for line in painted(one.app) if re.search(r"\btype\b.*▼", line))
        assert re.search(r"type +medium +▼", row), row
        one.screen.query_one("#g-type", Select).focus()
        await one.press("enter")
        page = "\n".join(painted(one.app))
        assert re.search(r"medium.*\n.*  2 cpu, 2GiB", page), page


async def test_only_what_somebody_changes_in_the_form_is_changed_in_the_toml() -> None:
    hand = ('# mine\n[workspace]\nduration="2h" # two\nname=  \'x\'\n\n[[group]]\nname = "a"\n'
            'count = "3"   # a text\ntype = "small"\n# the end\n')  # fmt: skip
    async with bench() as one:
        await one.write(hand)
        one.to_groups()
        await one.press("down", "up", "tab", "tab", "shift+tab", "f9", "f9")
        assert one.text == hand
        await one.type("g-count", "4")
        assert one.text == hand.replace('"3"', "4")
        await one.type("w-name", "y")
        assert one.text == hand.replace('"3"', "4").replace("name=  'x'", 'name = "y"')


async def test_a_toml_that_cannot_be_read_is_told_with_its_line_and_kept_from_the_form() -> None:
    async with bench() as one:
        await one.write("[workspace\nname = 1")
        assert "The TOML cannot be read: " in one.verdict and "line 1" in one.verdict
        assert one.form.disabled and one.screen._good is None
        for key in ("f2", "f3", "f4", "f6", "f5"):
            await one.press(key)
            assert one.text == "[workspace\nname = 1", key
        assert "Put the TOML right first (F9)" in told(one.app)[-5]
        await one.write('[workspace]\nname = "b"\nduration = "1h"')
        assert not one.form.disabled and one.field("w-name") == "b"


# -- the check


async def test_faults_are_told_in_the_words_of_the_validator_and_marked_at_their_fields() -> None:
    async with bench() as one:
        await one.write(OSG.replace('"medium"', '"medum"', 1).replace('"2h"', '"2"'))
        assert "workspace.duration: '2' is not a duration" in one.verdict
        assert "group[0].type: no lease type 'medum'; did you mean 'medium'?" in one.verdict
        assert one.state.endswith("cannot be deployed")
        bad = {pair.id for pair in one.screen.query(".pair") if pair.has_class("-bad")}
        assert bad == {"pair-w-duration", "pair-g-type"}
        assert one.groups[0].startswith("✖ ce") and one.groups[1].startswith("se")
        await one.write(OSG.replace('"osg"', '"osg-2"'))
        assert one.state.endswith("can be deployed: F5")
        assert not one.screen.query(".pair.-bad") and one.groups[0].startswith("ce")


async def test_what_it_costs_and_when_it_may_start_is_said() -> None:
    async with bench() as one:
        await one.write(OSG.replace('"osg"', '"osg-2"'))
        cost, hours, when, walltime = one.verdict.split("\n")
        assert cost == ("4 VMs on 4 whole nodes in 1 slot; memory 9GiB in all, up to 2.2GiB a node")
        assert hours == "8.4 node hours: lease 2h, asked of the batch system 2h6m"
        assert when.startswith("The batch system decides when it starts; the last 7 slots waited")
        assert walltime.startswith("walltime = lease 2h + launch 1m + ")


async def test_the_dry_run_shows_the_job_script_and_leases_nothing() -> None:
    async with bench() as one:
        await one.press("f9", "f6")  # from the editor, which has an F6 of its own
        assert isinstance(one.app.screen, Paper)
        page = "\n".join(painted(one.app))
        assert "#PBS -l nodes=1:ppn=1" in page and "1 VM on 1 whole node" in page
        assert all(call[1].get("dry_run") or call[1].get("show_script")
                   for call in one.source.calls if call[0] == "deploy")  # fmt: skip


async def test_the_catalogue_is_there_to_read_and_to_choose_from() -> None:
    async with bench() as one:
        assert "medium        2 cpu, 2GiB, disk 8GiB, at most 1d" in one.catalogue
        assert "Images here: default, small, root-6" in one.catalogue
        offered = [value for _, value in one.screen.query_one("#g-type", Select)._options]
        assert offered == [" ", "small", "medium", "large"]


# -- groups


async def test_groups_are_added_copied_moved_and_removed_with_the_keys_of_their_list() -> None:
    async with bench() as one:
        await one.write(OSG.replace('"osg"', '"osg-2"'))
        one.to_groups()
        await one.press("end", "c")
        assert [group["name"] for group in one.doc["group"]] == ["ce", "se", "worker", "worker-2"]
        assert one.doc["group"][3] == {**one.doc["group"][2], "name": "worker-2"}
        assert one.field("g-name") == "worker-2", "the copy is the one that is shown"
        await one.press("K", "K", "alt+up")
        assert [group["name"] for group in one.doc["group"]] == ["worker-2", "ce", "se", "worker"]
        await one.press("K")  # it is the first already
        assert one.doc["group"][0]["name"] == "worker-2"
        await one.press("J")
        assert one.field("g-name") == "worker-2" and one.form.group == 1
        await one.press("x")
        assert [group["name"] for group in one.doc["group"]] == ["ce", "se", "worker"]
        assert one.field("g-name") == "se"
        await one.press("a")
        assert [group["name"] for group in one.doc["group"]] == ["ce", "se", "worker", "group"]
        assert one.app.focused is one.screen.query_one("#g-name", Input)
        assert "# The virtual cluster of the paper" in one.text, "comments stay"
        one.to_groups()
        await one.press("u", "u")
        assert [group["name"] for group in one.doc["group"]] == ["ce", "worker-2", "se", "worker"]


async def test_the_last_group_can_go_and_another_come() -> None:
    async with bench() as one:
        await one.press("f4")
        assert "group" not in one.doc and "there is none" in one.verdict
        assert all(one.screen.query_one(f"#pair-g-{name}").disabled for name in ("name", "type"))
        await one.press("f4", "f3")
        await one.press("f2")
        assert one.doc["group"] == [{"name": "group", "type": "small", "count": 1}]
        assert one.state.endswith("can be deployed: F5")


async def test_the_form_shows_the_group_that_is_chosen_and_changes_that_one() -> None:
    async with bench() as one:
        await one.write(OSG)
        one.to_groups()
        await one.press("j", "j", "enter")
        assert one.field("g-name") == "worker" and one.field("g-count") == "2"
        assert one.app.focused is one.screen.query_one("#g-name", Input)
        await one.type("g-count", "6")
        assert [group.get("count") for group in one.doc["group"]] == [None, None, 6]


# -- files and drafts


async def test_an_example_is_looked_at_and_taken_as_it_is_written() -> None:
    async with bench() as one:
        await one.press("f7")
        assert isinstance(one.app.screen, Load)
        names = [str(option.prompt) for option in one.app.screen.query_one(OptionList).options]
        assert names == ["mpi-cluster", "osg-cluster", "single", "teaching-room"]
        await one.press("down")
        assert any("The virtual cluster of the" in line for line in painted(one.app))
        await one.press("enter")
        assert one.text == OSG and one.form.group == 0 and one.field("w-name") == "osg"


async def test_every_example_can_be_deployed_here() -> None:
    async with bench() as one:
        assert len(files.examples()) > 3
        for path in files.examples():
            await one.write(path.read_text("utf-8").replace('name = "osg"', 'name = "o"'))
            assert one.state.endswith("can be deployed: F5"), one.verdict


async def test_what_is_saved_is_offered_again_and_not_overwritten_without_a_question(
    tmp_path: Path,
) -> None:
    async with bench() as one:
        await one.write(OSG)
        await one.press("f8", "enter")
        saved = tmp_path / "config" / "wspilot" / "examples" / "osg.toml"
        assert saved.read_text("utf-8") == OSG and told(one.app)[-1] == f"saved: {saved}"
        await one.type("w-name", "other")
        await one.press("f7", "home")
        assert any("osg (yours)" in line for line in painted(one.app))
        await one.press("enter")
        assert one.text == OSG
        await one.write(OSG + "# more\n")
        await one.press("f8", "enter")
        assert isinstance(one.app.screen, Choose)
        await one.press("enter")
        assert saved.read_text("utf-8") == OSG and "not saved" in told(one.app)[-1]
        await one.press("f8", "enter", "down", "enter")
        assert saved.read_text("utf-8") == OSG + "# more\n"


async def test_a_place_that_takes_no_file_is_told() -> None:
    async with bench() as one:
        for path, said in (("/", "that is a directory"), ("/dev/null", "that is no file"),
                           ("/proc/nobody/x.toml", "the disk refuses it"),
                           ("~nobody-here/x", "not saved")):  # fmt: skip
            await one.press("f8")
            one.app.screen.query_one(Input).value = path
            await one.press("enter")
            if isinstance(one.app.screen, Choose):
                await one.press("down", "enter")
            await one.until(lambda said=said: said in told(one.app)[-1])


async def test_a_file_that_cannot_be_taken_is_told_and_nothing_is_changed(tmp_path: Path) -> None:
    large = b"x" * (files.MOST_BYTES + 1)
    async with bench() as one:
        before = one.text
        await one.press("f7", "shift+tab")
        for name, content in (("none", None), ("bad", b"\xff\xfe"), ("large", large)):
            path = tmp_path / f"{name}.toml"
            if content is not None:
                path.write_bytes(content)
            one.app.screen.query_one(Input).value = str(path)
            await one.press("enter")
            assert isinstance(one.app.screen, Load)
            assert f"{name}.toml: " in "".join(line.strip() for line in page(one.app.screen))
        await one.press("escape")
        assert one.text == before


def page(screen: Load) -> list[str]:
    return str(screen.query_one("#text", Static).render()).split("\n")


async def test_what_differs_from_what_was_loaded_is_seen_before_it_is_deployed() -> None:
    async with bench() as one:

        async def shown() -> str:
            await one.press("f10")
            await one.until(lambda: isinstance(one.app.screen, Paper))
            page = "\n".join(painted(one.app))
            await one.press("escape")
            return page

        await one.press("f10")
        await one.until(lambda: told(one.app)[-1].startswith("Nothing was loaded"))
        await one.press("f7", "down", "enter")
        assert one.text == OSG
        await one.press("f10")
        await one.until(lambda: told(one.app)[-1] == "It is as it was loaded.")
        await one.type("w-name", "mine")
        page = await shown()
        assert '-name = "osg"' in page and '+name = "mine"' in page and "-[" not in page
        await one.press("escape", "home", "e")  # another like a workspace
        await one.type("g-count", "9")
        assert "+count = 9" in await shown()


async def test_the_draft_survives_a_crash_and_ends_with_the_deployment(tmp_path: Path) -> None:
    draft = tmp_path / "tui" / "draft.toml"
    async with bench(tmp_path) as one:
        assert not draft.exists(), "nothing was written yet"
        await one.type("w-name", "mine")
        assert tomllib.loads(draft.read_text("utf-8"))["workspace"]["name"] == "mine"
    async with bench(tmp_path) as one:  # the app has gone without a word meanwhile
        assert one.field("w-name") == "mine"
        assert told(one.app)[-1].startswith("Your draft is back")
        await one.press("f5")
        await one.until(lambda: isinstance(one.app.screen, MainScreen))
    assert not draft.exists()
    async with bench(tmp_path) as one:
        assert one.field("w-name") == ""
        assert not any(said.startswith("Your draft") for said in told(one.app))


async def test_what_is_typed_just_before_it_is_closed_is_in_the_draft(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        one.screen.query_one("#w-name", Input).focus()
        await one.pilot.press("q", "escape")
        await one.until(lambda: isinstance(one.app.screen, MainScreen))
        await one.press("n")
        assert one.field("w-name") == "q"


async def test_a_look_at_another_like_a_workspace_costs_no_draft(tmp_path: Path) -> None:
    async with bench(tmp_path, text='[workspace]\nname = "mine"\n') as one:
        await one.press("escape", "home", "e")
        assert one.field("w-name") == "mpi-2" and one.field("g-name") == "rank"
        await one.press("escape", "n")
        assert one.field("w-name") == "mine"


async def test_what_another_like_a_workspace_lacks_is_said(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        await one.press("escape", "home", "e")
        assert not any("Not taken over" in said for said in told(one.app))
        ws = one.app.model.items["workspaces"][(one.app.table.cursor_key or "").partition("/")[2]]
        ws["groups"][0]["scripted"] = True
        await one.press("escape", "home", "e")
        assert any("Not taken over: user_data of rank" in said for said in told(one.app))


async def test_a_disk_that_refuses_the_draft_is_told(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        (tmp_path / "tui").write_text("in its place")
        await one.type("w-name", "a")
        assert "The draft is not kept: the disk refuses it." in told(one.app)


async def test_beginning_anew_can_be_undone(tmp_path: Path) -> None:
    async with bench(tmp_path, text=OSG) as one:
        await one.press("ctrl+n")
        assert [group["name"] for group in one.doc["group"]] == ["vm"]
        await one.press("f9", "ctrl+z")
        assert one.text == OSG and one.field("w-name") == "osg"


# -- deploying


async def test_it_is_deployed_once_with_what_was_checked_and_lands_on_the_new_workspace() -> None:
    source = Gated()
    async with bench(source=source) as one:
        await one.type("w-name", "landed")
        doc = one.doc
        source.gate.clear()
        await one.pilot.press("f5", "f5", "f5")
        assert told(one.app)[-1].startswith("It is being sent")
        source.gate.set()
        await one.until(lambda: isinstance(one.app.screen, MainScreen))
        sent = [given for _, given in source.calls if "token" in given]
        assert len(sent) == 1 and sent[0]["ensemble"] == doc
        await one.until(lambda: name_here(one) == "landed")
        await one.until(lambda: any("all of it or nothing" in said for said in told(one.app)))


def name_here(one: Bench) -> object:
    """Of what is under the cursor of the main screen."""
    return (one.app.model.doc(one.app.table.cursor_key or "") or {}).get("name")


async def test_what_cannot_be_deployed_or_is_not_checked_yet_is_not_sent() -> None:
    source = Gated()
    async with bench(source=source) as one:
        await one.write("[workspace]\n")
        await one.press("f5")
        assert "It cannot be deployed as it stands" in told(one.app)[-1]
        await one.write(OSG.replace('"osg"', '"osg-2"'))
        assert one.screen._good is not None
        source.gate.clear()
        one.screen._area.replace("# more\n", (0, 0), (0, 0))
        await one.until(lambda: one.screen._checking)
        await one.pilot.press("f5")
        assert "It is still being checked" in told(one.app)[-1]
        assert not any("token" in given for _, given in source.calls)


async def test_closed_while_it_is_sent_the_outcome_is_told_all_the_same() -> None:
    source = Gated()
    async with bench(source=source) as one:
        await one.type("w-name", "later")
        source.gate.clear()
        await one.pilot.press("f5", "escape")
        assert isinstance(one.app.screen, MainScreen)
        source.gate.set()
        await one.until(lambda: any(said.startswith("Deployed: ") for said in told(one.app)))


async def test_the_help_above_it_makes_way_for_the_new_workspace() -> None:
    source = Gated()
    async with bench(source=source) as one:
        await one.type("w-name", "below")
        source.gate.clear()
        await one.pilot.press("f5", "f1")
        assert isinstance(one.app.screen, Help)
        source.gate.set()
        await one.until(lambda: isinstance(one.app.screen, MainScreen))
        await one.until(lambda: name_here(one) == "below")


# -- habits


async def test_f1_helps_where_a_field_has_the_focus_and_a_question_mark_elsewhere() -> None:
    async with bench() as one:
        assert isinstance(one.app.focused, Input)
        await one.press("f1")
        page = "\n".join(painted(one.app))
        assert isinstance(one.app.screen, Help) and "the daemon checks as you type" in page
        assert "the group further up" in page and "f5" in page and "node:n0" not in page
        await one.press("escape")
        one.screen.query_one("#w-name", Input).focus()
        await one.press("question_mark")
        assert one.field("w-name") == "?"
        one.to_groups()
        await one.press("question_mark")
        assert isinstance(one.app.screen, Help)
        await one.press("question_mark", "f9", "f1")
        assert isinstance(one.app.screen, Help), "from the editor, too"


async def test_the_palette_holds_everything_that_can_be_done() -> None:
    from wspilot.tui.palette import Everything

    async with bench() as one:
        await one.write(OSG)
        titles = {title: act for title, _, act in Everything(one.screen)._commands()}
        for name in ("Add", "Copy group", "Remove group", "Group up", "Group down", "Undo",
                     "Deploy", "Script", "Load", "Save", "TOML", "Changes", "New",
                     "Close"):  # fmt: skip
            assert any(title.startswith(f"{name}  (") for title in titles), name
        assert {"Group: ce", "Group: se", "Group: worker", "Theme: night"} <= set(titles)
        titles["Group: worker"]()
        await one.checked()
        assert one.field("g-name") == "worker"
        await titles["Group up  (K alt+up)"]()
        await one.checked()
        assert [group["name"] for group in one.doc["group"]] == ["ce", "worker", "se"]
        for key in ("ctrl+p", "colon"):
            one.to_groups()
            await one.pilot.press(key)
            await one.until(lambda: any("Copy group" in line for line in painted(one.app)))
            await one.pilot.press("escape")
            await one.until(lambda: one.app.screen is one.screen)


async def test_f9_goes_to_the_toml_and_back_also_where_only_one_has_room() -> None:
    async with bench(size=(80, 24)) as one:
        area = one.screen.query_one(TomlArea)
        assert not area.display and one.form.display
        await one.press("f9")
        assert area.display and not one.form.display and one.app.focused is area
        await one.press("f9")
        assert one.form.display and not area.display
        assert isinstance(one.app.focused, Groups)


async def test_everything_of_the_form_is_seen_at_80x24() -> None:
    async with bench(size=(80, 24)) as one:
        await one.write(OSG.replace('"osg"', '"osg-2"'))
        page = "\n".join(painted(one.app))
        for word in ("duration", "worker", "requires", "large", "Images here", "8.4 node hours",
                     "esc", "Close"):  # fmt: skip
            assert word in page, word


@pytest.mark.parametrize("size", [(20, 5), (40, 10), (60, 15)])
async def test_it_can_be_used_in_a_small_terminal(size: tuple[int, int]) -> None:
    async with bench(size=size) as one:
        await one.type("w-name", "small")
        await one.press("f2", "f9", "f9", "f1", "escape", "f7", "escape", "f8", "escape")
        assert one.doc["workspace"]["name"] == "small" and len(one.doc["group"]) == 2
