"""Deploying what the builder holds: what is sent is what was checked, and it is leased once."""

from __future__ import annotations

import asyncio

from wspilot.errors import WspilotError
from wspilot.tui.builder import asking, draft
from wspilot.tui.builder.toml_out import dumps
from wspilot.tui.screens.filing import Filing


class Sending(Filing):
    """Deploy, and land on the new workspace."""

    _sending = False

    def action_deploy(self) -> None:
        """Lease it, once."""
        self.catch_up()
        if self._sending:
            self._wspilot.tell("It is being sent: the daemon has not answered yet.", "info")
        elif self._checking:
            self._wspilot.tell("It is still being checked: F5 again in a moment.", "info")
        elif self._good is None:
            self._wspilot.tell("It cannot be deployed as it stands: see below.", "warning")
        else:
            self._sending = True
            # Of the app: the outcome is told even when this screen is closed meanwhile.
            self._wspilot.run_worker(self._send(self._good, self._text), exit_on_error=False)

    async def _send(self, doc: draft.Doc, text: str) -> None:
        self._title("is being deployed", "secondary")
        key, sent = dumps(doc), self._wspilot.sent
        try:
            token = await asyncio.to_thread(sent.token, key)
            made = await asking.deploy(self._source, doc, token)
        except WspilotError as error:
            self._sending = False
            self._wspilot.tell(_not_deployed(error), "error")
            if self.is_attached:
                self._check()
        else:
            await asyncio.to_thread(sent.done, key)
            await asyncio.to_thread(self._forget, text)
            self._landed(made)

    def _forget(self, text: str) -> None:
        """The draft of what is deployed."""
        if self._ours and self._file.load() == text:
            self._file.drop()
            self._kept = text

    def _landed(self, made: str) -> None:
        """The new workspace is there: to it, unless this screen was left."""
        if not self.is_attached:
            self._wspilot.tell("Deployed: it comes up in Leases, all of it or nothing.", "info")
            return
        while self.app.screen is not self:  # what stands above: the help, the job script
            self.app.pop_screen()
        self.dismiss(made)


def _not_deployed(error: WspilotError) -> str:
    said = asking.told(error)
    if asking.unsure(error):
        return f"It is not known whether it is deployed: {said}. F5 sends it again: it is leased " \
               "once at most."  # fmt: skip
    return f"not deployed: {said}"
