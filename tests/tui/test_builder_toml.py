"""The builder's TOML: it says exactly what is meant, and is changed as little as can be."""

from __future__ import annotations

import string
import unicodedata
from datetime import UTC
from typing import Any

import pytest
import tomllib
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tui.stage import HOSTILE
from wspilot.tui.builder import draft
from wspilot.tui.builder.files import examples
from wspilot.tui.builder.toml_edit import edited
from wspilot.tui.builder.toml_out import dumps

# What TOML can hold; no surrogates (it is UTF-8), no NaN (it is not itself).
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.sampled_from(
    ['"""', "'''", '\\"""', "a\nb", "\n", '"\n"', "\t", "\r\n", "\\", "#", "[[group]]\n", HOSTILE]
)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
times = st.datetimes(timezones=st.sampled_from([None, UTC])) | st.dates() | st.times()
plain = st.booleans() | texts | numbers | times
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
documents = st.dictionaries(texts, values | st.lists(st.dictionaries(texts, values), max_size=3))


@given(documents)
@settings(max_examples=300, deadline=None)
def test_what_is_written_says_what_was_meant(doc: dict[str, Any]) -> None:
    text = dumps(doc)
    assert tomllib.loads(text) == doc
    odd = {char for char in text if unicodedata.category(char) == "Cc"} - {"\n"}
    assert not odd, "nothing in it acts upon a terminal"
    assert len(text.splitlines()) == text.count("\n"), "nor is a new line for an editor"


@pytest.mark.parametrize("value", [object(), {1}, b"x", None])
def test_what_toml_has_no_word_for_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="TOML has no word for"):
        dumps({"a": value})


names = st.text(string.ascii_lowercase, min_size=1, max_size=3)
group = st.fixed_dictionaries(
    {}, optional={"name": names, "type": names, "count": st.integers(1, 9) | names,
                  "nics": st.lists(names, max_size=3), "user_data": texts,
                  "roles": st.dictionaries(st.sampled_from(["provides", "requires"]),
                                           st.lists(names, max_size=2))},
)  # fmt: skip
ensembles = st.fixed_dictionaries(
    {}, optional={"workspace": st.dictionaries(names, plain, max_size=3),
                  "group": st.lists(group, min_size=1, max_size=4)},
)  # fmt: skip
notes = st.lists(
    st.sampled_from(["", "# a", "  # [[group]]", '# """', "\t", "#"]), min_size=0, max_size=3
)


def annotated(doc: dict[str, Any], data: st.DataObject) -> str:
    """With comments and blanks wherever there may be some."""
    lines: list[str] = []
    inside = ""
    for line in dumps(doc).split("\n"):
        if not inside:
            lines += data.draw(notes)
            if line and line.count('"""') != 1:
                line += data.draw(st.sampled_from(["", "  # why", " #", "  "]))
        if line.count('"""') % 2:
            inside = "" if inside else '"""'
        lines.append(line)
    return "\n".join(lines)


@given(ensembles, ensembles, st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_is_changed_into_whatever_says_just_that(
    old: dict[str, Any], new: dict[str, Any], data: st.DataObject
) -> None:
    text = annotated(old, data)
    try:
        tomllib.loads(text)
    except ValueError:
        text = "# cannot be read [" + text  # then everything is written anew
    assert tomllib.loads(edited(text, new)) == new


@given(ensembles, st.data())
@settings(max_examples=200, deadline=None)
def test_what_is_not_changed_stays_to_the_letter(doc: dict[str, Any], data: st.DataObject) -> None:
    text = annotated(doc, data)
    if draft.read(text)[0] == doc:
        assert edited(text, doc) == text


HAND = """\
# A cluster
# of mine.

[workspace]   # what it is
duration = "2h" # not long
ssh_keys = [
  "ssh-ed25519 AAAA me",  # my key
]

# The first one.
[[group]]
  name = 'ce'         # an anchor
  type = "medium"
roles.provides = ["ce"]
user_data = '''
#!/bin/sh
[[group]]
name = "not this"
# nor this
'''

# The second one.
[[ group ]]
name = "worker" # "many" # of them
count = 3
[group.roles]
requires = ["ce"]
# the end
"""


def after(change: Any) -> str:
    doc = tomllib.loads(HAND)
    new = change(doc)
    text = edited(HAND, new)
    assert tomllib.loads(text) == new
    return text


def test_a_value_is_changed_in_its_place_and_keeps_its_comment() -> None:
    assert after(lambda doc: draft.with_workspace(doc, "duration", "3h")) == HAND.replace(
        '"2h"', '"3h"'
    )
    assert after(lambda doc: draft.with_group(doc, 0, "name", "a")) == HAND.replace("'ce'", '"a"')
    assert after(lambda doc: draft.with_group(doc, 1, "name", "w")) == HAND.replace(
        'name = "worker" #', 'name = "w" #'
    )
    assert after(lambda doc: draft.with_group(doc, 0, "provides", "x")) == HAND.replace(
        'roles.provides = ["ce"]', 'roles = { provides = ["x"] }'
    )


def test_a_value_more_or_less_moves_nothing_else() -> None:
    assert after(lambda doc: draft.with_workspace(doc, "name", "a")) == HAND.replace(
        "# what it is\n", '# what it is\nname = "a"\n'
    )
    assert after(lambda doc: draft.with_group(doc, 1, "min", "2")) == HAND.replace(
        "count = 3\n", "count = 3\nmin = 2\n"
    )
    assert after(lambda doc: draft.with_group(doc, 1, "count", "")) == HAND.replace(
        "count = 3\n", ""
    )


def test_groups_take_their_comments_along() -> None:
    moved = after(lambda doc: draft.moved(doc, 0, 1)[0])
    assert moved.index("# The second one.") < moved.index("# The first one.")
    assert sorted(moved) == sorted(HAND) and moved.startswith(HAND[: HAND.index("# The first")])
    removed = after(lambda doc: draft.removed(doc, 0)[0])
    assert "# The first one." not in removed and "# The second one.\n[[ group ]]" in removed
    copied = after(lambda doc: draft.copied(doc, 1)[0])
    assert copied.startswith(HAND) and '\n[[group]]\nname = "worker-2"\n' in copied
    added = after(lambda doc: draft.added(doc, ["small"])[0])
    assert added == HAND + '\n[[group]]\nname = "group"\ntype = "small"\ncount = 1\n'


def test_what_cannot_be_changed_in_its_place_is_written_anew_and_right() -> None:
    doc = tomllib.loads(HAND)
    new = draft.with_group(doc, 1, "requires", "se")  # it stands in a table of its own
    assert edited(HAND, new) == dumps(new)
    inline = "group = [{ name = 'a' }] # in a line\n"
    new = draft.with_group(tomllib.loads(inline), 0, "name", "b")
    assert edited(inline, new) == dumps(new)
    assert edited("not toml", new) == dumps(new)


@pytest.mark.parametrize("path", examples(), ids=lambda path: path.stem)
def test_every_field_of_an_example_is_changed_without_losing_a_comment(path: Any) -> None:
    text = path.read_text("utf-8")
    notes = [line for line in text.split("\n") if line.startswith("#")]
    assert notes
    for at in range(len(draft.groups(tomllib.loads(text)))):
        for key in ("name", "type", "count", "min", "nics", "provides", "requires", "image"):
            for value in ("7", ""):
                now = edited(text, draft.with_group(tomllib.loads(text), at, key, value))
                assert [line for line in now.split("\n") if line.startswith("#")] == notes


def test_an_odd_document_is_not_changed_by_the_form() -> None:
    odd = {"workspace = 5": "[workspace]", "[[workspace]]": "[workspace]",
           "group = [1, {name = 'a'}]": "[[group]]", "[group]": "[[group]]"}  # fmt: skip
    for text, why in odd.items():
        doc, fault = draft.read(text)
        assert not fault and why in draft.odd(doc)
        assert draft.with_workspace(doc, "name", "a") == doc == draft.added(doc, [])[0]
        assert draft.groups(doc) == []
    assert not draft.odd({})


def test_names_of_new_groups_are_free() -> None:
    odd: list[dict[str, Any]] = [{"name": [1]}, {"name": {}}, {}, {"name": "a"}, {"name": "a-2"}]
    assert draft.free_name("a", odd) == "a-3" and draft.free_name("b", odd) == "b"
    doc = {"group": odd}
    assert draft.copied(doc, 0)[0]["group"][1]["name"] == "[1]"
    assert draft.copied(doc, 3)[0]["group"][4]["name"] == "a-3"


def test_nesting_that_would_exhaust_the_stack_is_refused_in_words() -> None:
    for text in ("a = " + "[" * 50 + "]" * 50, "a = " + "[" * 5000, "a" + ".a" * 50 + " = 1"):
        doc, fault = draft.read(text)
        assert doc == {} and fault == "it is nested too deeply"
    assert draft.read("a = " + "[" * 10 + "]" * 10)[1] == ""
    assert draft.read("#" * 300_000)[1] == "it is too large for an ensemble"
