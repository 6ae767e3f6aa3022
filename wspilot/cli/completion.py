"""Shell completion: verbs and options from the parser, names from the daemon when it answers.

The shell's part only hands over the words; `wspilot __complete` prints what may come next.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from wspilot.cli.parse import VERBS, parser
from wspilot.client import call
from wspilot.errors import WspilotError
from wspilot.text import clean

NAMES_S = 1.0  # a shell must not hang on a daemon that does
BASH = r"""# wspilot completion: eval "$(wspilot completion bash)"
_wspilot() {
    local IFS=$'\n'
    COMPREPLY=($(wspilot __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _wspilot wspilot"""
ZSH = "autoload -U +X bashcompinit && bashcompinit\n" + BASH.replace(" bash)", " zsh)")
_NAMED = ("show", "wait", "destroy", "events", "logs", "extend", "save", "console", "ssh",
          *VERBS)  # fmt: skip


def script(shell: str) -> str:
    """What the shell evaluates."""
    return ZSH if shell == "zsh" else BASH


def candidates(home: Path, words: list[str]) -> list[str]:
    """What the last of `words` may become. Empty: let the shell complete file names."""
    word = words[-1] if words else ""
    verbs = _verbs()
    if len(words) < 2:
        found: Iterable[str] = (verb for verb in verbs if not verb.startswith("_"))
    elif words[0] not in verbs:
        found = ()
    elif word.startswith("-"):
        found = (option for act in verbs[words[0]] for option in act.option_strings)
    else:
        found = _values(home, words[0], words[-2], verbs[words[0]])
    return sorted({one for one in found if one.startswith(word)})


def _verbs() -> dict[str, list[argparse.Action]]:
    sub = next(act for act in parser()._actions if act.dest == "verb")
    assert isinstance(sub.choices, dict)
    return {name: one._actions for name, one in sub.choices.items()}


def _values(home: Path, verb: str, before: str, actions: list[argparse.Action]) -> Iterable[str]:
    """Values of the option `before`, else of the verb's arguments."""
    option = next((act for act in actions if before in act.option_strings), None)
    if option is not None and option.nargs != 0:
        if before == "--prove":
            ended = _ask(home, "workspaces", "list", all=True)
            return (str(ws["name"]) for ws in ended)
        nouns = {"--type": "types", "--image": "images"}
        if before in nouns:
            return (str(one["name"]) for one in _ask(home, nouns[before]))
        return map(str, option.choices or ())
    if verb in _NAMED:
        return _leases(home)
    if verb == "nodes" and before in ("forget", "repair"):
        return (str(one["name"]) for one in _ask(home, "nodes"))
    plain = next((act for act in actions if not act.option_strings and act.choices), None)
    return map(str, plain.choices or ()) if plain is not None else ()


def _leases(home: Path) -> Iterator[str]:
    """WORKSPACE, WORKSPACE/GROUP and WORKSPACE/GROUP/N of what has not ended."""
    for ws in _ask(home, "workspaces", "list"):
        yield ws["name"]
        for group in ws["groups"]:
            yield f"{ws['name']}/{group['name']}"
            for n in range(1, min(group["count"], 100) + 1):
                yield f"{ws['name']}/{group['name']}/{n}"


def _ask(home: Path, noun: str, method: str = "", **params: Any) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = call(home, method or noun, params, timeout_s=NAMES_S)[noun]
    except (WspilotError, KeyError):
        return []
    return [one for one in found if one.get("name") == clean(str(one.get("name")), 200)]
