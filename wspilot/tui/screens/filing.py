"""Where the builder's draft comes from and goes to: examples, and files that the user names."""

from __future__ import annotations

import asyncio
from difflib import unified_diff
from pathlib import Path

from textual import work

from wspilot.text import clean
from wspilot.tui.builder import draft, files
from wspilot.tui.builder.form import Groups
from wspilot.tui.builder.toml_out import dumps
from wspilot.tui.screens.drafting import Drafting


class Filing(Drafting):
    """Load, save, and begin anew."""

    @work(exit_on_error=False, group="load")
    async def action_load(self) -> None:
        """An example, or a file."""
        from wspilot.tui.screens.load import Load

        text = await self.app.push_screen_wait(Load())
        if text is not None:
            self._take(text)
            self._loaded = text

    def action_anew(self) -> None:
        """An empty one."""
        self._take(dumps(draft.empty(self._types)))
        self._loaded = ""

    def _take(self, text: str) -> None:
        """Another text in the place of this one, which hears no letter of it any more."""
        self.catch_up()
        self._area.become(text)
        self._form.group = 0
        (self._area if self.has_class("-toml") else self.query_one(Groups)).focus()

    def action_changes(self) -> None:
        """What differs from what was loaded, before it is deployed."""
        from wspilot.tui.screens.paper import Paper

        self.catch_up()
        old, new = self._loaded.split("\n"), self._text.split("\n")
        lines = list(unified_diff(old, new, "as it was loaded", "as it is now", lineterm=""))
        if not self._loaded:
            self._wspilot.tell("Nothing was loaded: it was begun here.", "info")
        elif not lines:
            self._wspilot.tell("It is as it was loaded.", "info")
        else:
            self.app.push_screen(Paper("What differs from what was loaded", lines))

    @work(exit_on_error=False, group="save")
    async def action_save(self) -> None:
        """Into a file."""
        self.catch_up()
        from wspilot.tui.screens.ask import Ask
        from wspilot.tui.screens.choose import Choose

        name = draft.field(draft.workspace(self._doc), "name").replace("/", "-") or "ensemble"
        offered = str(files.own_dir() / f"{name}.toml")
        said = await self.app.push_screen_wait(Ask("Save as", offered, "a path"))
        if not said:
            return
        try:
            path = Path(said).expanduser()
            there = await asyncio.to_thread(path.exists)
            ways = [("keep", "keep it"), ("replace", "replace it")]
            if there and await self.app.push_screen_wait(
                Choose(f"{clean(said, 200)} is there already", ways)
            ) != "replace":  # fmt: skip
                self._wspilot.tell(f"{said}: not saved, it was there already", "info")
                return
            await asyncio.to_thread(files.save, path, self._text)
        except (OSError, RuntimeError, ValueError) as error:
            self._wspilot.tell(f"{said}: not saved: {error}", "error")
        else:
            self._wspilot.tell(f"saved: {path}", "info")
