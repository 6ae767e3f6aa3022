"""A notice on the desktop, for who looks elsewhere: by an escape sequence (OSC 9 or OSC 777).

It goes the way of all output, so it works over ssh. A terminal that is not known to understand it
gets none, unless tui.toml says which it takes. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from wspilot.text import clean

MOST = 200  # characters: more is cut by desktops anyway
_OSC9 = {"TERM_PROGRAM": ("iTerm.app", "WezTerm", "ghostty"), "LC_TERMINAL": ("iTerm2",),
         "TERM": ("xterm-kitty", "xterm-ghostty", "wezterm", "foot", "foot-extra")}  # fmt: skip


def way(wanted: str, env: Mapping[str, str]) -> str:
    """`osc9`, `osc777` or `off`: what this terminal takes, where it is not said."""
    if wanted != "auto":
        return wanted
    if any(env.get(name) in known for name, known in _OSC9.items()):
        return "osc9"
    return "osc777" if env.get("VTE_VERSION") or env.get("TERM", "").startswith("rxvt") else "off"


def sequence(text: str, way: str, env: Mapping[str, str]) -> str:
    """What is to be written; nothing for `off`.

    Nothing in the text can end it or begin another. Our name comes first: a text of digits and a
    semicolon would be a command of its own to some. tmux lets it through with `allow-passthrough`.
    """
    if way not in ("osc9", "osc777"):
        return ""
    said = clean(text, MOST)
    if way == "osc9":
        made = f"\x1b]9;wspilot: {said}\a"
    else:
        made = f"\x1b]777;notify;wspilot;{said.replace(';', ',')}\a"
    if not env.get("TMUX"):
        return made
    doubled = made.replace("\x1b", "\x1b\x1b")
    return f"\x1bPtmux;{doubled}\x1b\\"
