"""Hand-edited TOML of every odd kind, and foreign text, in every place of the builder."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.events import Paste
from textual.widgets import Input

from tests.tui.builder import bench
from tests.tui.stage import HOSTILE, Scripted, harmless, painted, told
from wspilot.tui import demosite
from wspilot.tui.builder import draft
from wspilot.tui.builder.toml_out import dumps, said

VALUES = ("5", "-1.5", "true", "1979-05-27", '""', '" "', '"3"', '"x"', "[]", "[1]", "[[1], {}]",
          "{}", "{ a = 1 }", "[{ name = [1] }]", '"[red]x[/nope]"', "nan", '"a\\u0000\\u001b[2J"',
          '"""\nlines\n[[group]]\n"""')  # fmt: skip
PLACES = ("workspace = {}", "group = {}", "[workspace]\nname = {}", "[workspace]\nduration = {}",
          "other = {}", "[[group]]\nnew = {}",
          *(f"[[group]]\nname = 'a'\n[[group]]\n{key} = {{}}" for key in
            ("name", "type", "count", "min", "nics", "image", "roles", "ready", "placement",
             "user_data", "roles.provides", "roles.requires.a")))  # fmt: skip
TEXTS = [place.format(value) for place, value in itertools.product(PLACES, VALUES)]
MORE = ["[[group]]\nname=[1]\n" * 2, "[group]\nname = 'a'\n", "[[group.name]]\na = 1\n",
        "[[workspace]]\n", "[workspace.name]\n", "group = [1, {name = 'a'}]", "[[group]]\n" * 300,
        "", "# only this", "[", "a = 1\na = 2", "\ufeff[workspace]", "a = " + "[" * 90,
        "a = " + "[" * 60 + "]" * 60, "a = " + "{a=" * 60 + "1" + "}" * 60, "a" + ".a" * 300 + "=1",
        "a = " + "9" * 5000, "a = 2021-13-45", "a = '\x1b]0;x\x07'", "a = '\x85\u2028\x9b'",
        "\r\n[workspace]\r\nname = 'x'\r\n", "# " + "x" * 300_000]  # fmt: skip


def acted(doc: draft.Doc) -> list[draft.Doc]:
    """Every change that the form can make, at every place."""
    made = [draft.with_workspace(doc, name, "x") for name in ("name", "duration")]
    made.append(draft.added(doc, ["small"])[0])
    for at in range(-1, min(4, len(draft.groups(doc)) + 1)):
        made += [draft.copied(doc, at)[0], draft.removed(doc, at)[0]]
        made += [draft.moved(doc, at, by)[0] for by in (-1, 1)]
        made += [draft.with_group(doc, at, key, text) for text in ("", "x, y", "7")
                 for key in ("name", "type", "count", "min", "nics", "provides", "requires",
                             "image", "ready", "placement")]  # fmt: skip
    return made


def test_no_odd_document_stops_any_change_and_what_is_odd_stays() -> None:
    seen = 0
    for text in (*TEXTS, *MORE):
        doc, fault = draft.read(text)
        assert not (doc and fault)
        before = said(doc)
        for new in acted(doc):
            dumps(new)
            seen += 1
            if draft.odd(doc):
                assert said(new) == before, text
        assert said(doc) == before, "the document itself is never changed"
        for group in draft.groups(doc):
            for key in (*group, "roles", "provides", "requires"):
                assert harmless(draft.field(group, key)), text
    assert seen > 5000


async def test_the_app_lives_through_odd_documents_and_every_act_on_them() -> None:
    async with bench() as one:
        area = one.screen._area
        for text in (*TEXTS[::11], *MORE):  # every value, and every place
            area.replace(text, (0, 0), area.document.end)
            await one.pilot.pause()
            written = area.text
            for act in ("add", "copy", "remove"):
                await one.screen.run_action(act)
            await one.screen.run_action("move(1)")
            await one.screen.run_action("move(-1)")
            if draft.read(written)[1] or draft.odd(draft.read(written)[0]):
                assert area.text == written, "it is put right by hand, or not at all"
            await one.pilot.pause()
            assert one.app._exception is None, text
        await one.checked()


async def test_the_form_rewrites_nothing_that_somebody_has_written() -> None:
    async with bench() as one:
        for text in ("workspace=5", "[[group]]\ncount='3'", "[[group]]\nname = ' a '", "group=3",
                     "[[group]]\nnics = ['a',  'b b']", "[[group]]\nroles = { provides = 'x' }",
                     "[[group]]\nname = 'a\\nb'", "workspace = { name = ' x ' }"):  # fmt: skip
            await one.write(f"# mine\n{text}  # this\n")
            await one.press("tab", "shift+tab")
            one.to_groups()
            await one.press("down", "up")
            assert one.text == f"# mine\n{text}  # this\n"


async def test_escape_sequences_in_the_toml_and_in_the_form_are_shown_not_sent() -> None:
    word = "\\u001b]0;pwned\\u0007\\u009b2J\\u202e[red]x[/nope]"
    text = f'[workspace]\nname = "{word}"\nduration = "{word}"\n'
    keys = ("name", "type", "image", "ready", "placement", "count", "min")
    text += "[[group]]\n" + "".join(f'{key} = "{word}"\n' for key in keys)
    text += f'nics = ["{word}"]\nroles = {{ provides = ["{word}"], requires = ["{word}"] }}\n'
    raw = f"# {HOSTILE} \x85 \u2028 \x7f\n{text}"
    for size in ((120, 40), (80, 24)):
        async with bench(size=size) as one:
            for written in (text, raw):
                await one.write(written)
                await one.press("f2", "f9", "f9")
                screen = "\n".join(painted(one.app))
                assert harmless(screen) and ("pwned" in screen) and "[red]x" in screen
                assert one.app._exception is None
            assert "␛]0;pwned␇" in screen or size[0] < 100


async def test_what_is_pasted_into_a_field_is_shown_not_sent() -> None:
    async with bench() as one:
        one.screen.query_one("#w-name", Input).focus()
        await one.pilot.pause()
        one.screen.query_one("#w-name", Input).post_message(Paste(HOSTILE))
        await one.checked()
        assert one.field("w-name").startswith("␛]0;pwned␇")
        assert harmless("\n".join(painted(one.app))) and "is not a name" in one.verdict


async def test_a_draft_of_a_stranger_is_shown_not_sent(tmp_path: Path) -> None:
    async with bench(tmp_path, text=f"# {HOSTILE}\n[workspace]\nname = 'x'\n") as one:
        screen = "\n".join(painted(one.app))
        assert harmless(screen) and "pwned" in screen
        assert "The TOML cannot be read" in one.verdict and one.app.focused is one.screen._area


async def test_what_the_site_calls_its_types_and_images_is_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = {"name": HOSTILE, "cpus": 1, "memory_mib": 1, "disk_mib": 1, "max_duration_s": 60}
    monkeypatch.setitem(demosite.ANSWERS, "types", lambda: {"types": [kind]})  # type: ignore[arg-type]
    monkeypatch.setitem(  # type: ignore[arg-type]
        demosite.ANSWERS, "images", lambda: {"images": [{"name": HOSTILE, "fault": ""}]}
    )
    async with bench() as one:
        one.screen.query_one("#g-type").focus()
        await one.press("enter")
        screen = "\n".join(painted(one.app))
        assert harmless(screen) and "[red]x[/nope]" in screen and "pwned" in one.catalogue


async def test_names_of_files_and_refusals_are_text(tmp_path: Path) -> None:
    source = Scripted()
    async with bench(source=source) as one:
        await one.press("f7", "shift+tab")
        one.app.screen.query_one(Input).value = f"/{HOSTILE}"
        await one.press("enter")
        assert harmless("\n".join(painted(one.app))) and "pwned" in "\n".join(painted(one.app))
        await one.press("escape", "f8")
        one.app.screen.query_one(Input).value = f"{tmp_path}/{HOSTILE[:-8]}/x"
        await one.press("enter")
        await one.until(lambda: "not saved" in told(one.app)[-1] or "saved" in told(one.app)[-1])
        assert harmless(told(one.app)[-1])


async def test_wide_and_combining_names_keep_the_columns() -> None:
    async with bench() as one:
        name = "集群-e\u0301-👩‍🔬"
        await one.write(f"[[group]]\nname = '{name}'\n[[group]]\nname = 'b'\n")
        first, second = (line.plain for line in one.form._lines)
        assert cell_len(first[: first.index("1 x")]) == cell_len(second[: second.index("1 x")])


async def test_a_large_document_is_still_edited() -> None:
    async with bench() as one:
        text = "[workspace]\nduration = '1h'\n" + "".join(
            f"[[group]]\nname = 'g{n}'\ntype = 'small'\n" for n in range(400)
        )
        await one.write(text)
        await one.type("w-name", "large")
        assert one.text == text.replace("[workspace]\n", '[workspace]\nname = "large"\n')
        assert len(one.groups) == 400 and "the site's 48 nodes" in one.verdict
