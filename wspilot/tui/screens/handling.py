"""What keys do that change something, and what leads away from the main screen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from textual import work

from wspilot.errors import WspilotError
from wspilot.text import clean, parse_duration
from wspilot.tui.screens.browsing import Browsing

if TYPE_CHECKING:
    from wspilot.tui.acting import Target

# The dialogs, and what acting needs, are imported when they are wanted: not for the first frame.
CHANGES = ("deploy", "destroy", "act", "verb", "clone", "extend", "console", "ssh")
ON_LEASES = ("destroy", "act", "verb", "extend")


class Handling(Browsing):
    """Acting on the selection, or on what is marked."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What changes something is hidden from who may only look; so is what fits no view."""
        if self._wspilot.read_only and action in CHANGES:
            return False
        if action in ("sort_next", "filter_state"):
            return self.how.view != "timeline"
        return self.how.view == "timeline" or action not in ("zoom", "pan", "now", "fit")

    def useful(self, action: str) -> bool:
        """Is there anything here that it can be done to? (The key itself says what is missing.)"""
        if not super().useful(action):
            return False
        if action.partition("(")[0] not in ON_LEASES or self.table.marks:
            return True
        key = self.table.cursor_key or ""
        ws = self.model.workspace_of(key)
        over = (self.model.doc(key) or {}).get("state") == "terminated"
        leases = key.startswith(("workspaces/", "groups/", "vms/"))
        return bool(leases and ws and ws["state"] != "ended" and not over)

    def targets(self) -> tuple[Target, ...]:
        """What is marked; else what stands under the cursor. Captured now."""
        from wspilot.tui.acting import target_of, targets_of

        if self.table.marks:
            return targets_of(self.model, list(self.table.marks))
        target = target_of(self.model, self.table.cursor_key)
        return (target,) if target else ()

    def _targets(self) -> tuple[Target, ...]:
        """The same; says what to do where there is none."""
        found = self.targets()
        if not found:
            self._wspilot.tell("Nothing to act on here: choose a workspace, a group or a VM that "
                               "is not over.", "info")  # fmt: skip
        return found

    def action_act(self) -> None:
        """Choose a verb for the selection."""
        if targets := self._targets():
            self._choose(targets)

    @work(exit_on_error=False)
    async def _choose(self, targets: tuple[Target, ...]) -> None:
        from wspilot.tui.acting import Order
        from wspilot.tui.screens.act import Act

        verb = await self.app.push_screen_wait(Act(targets))
        if verb.startswith("copy "):
            self._copy(Order(verb[5:], targets).command(), "the command")
        elif verb:
            self._do(verb, targets)

    def action_verb(self, verb: str) -> None:
        """One verb for the selection, at once or after its question."""
        from wspilot.tui.acting import VERBS, fitting

        if targets := self._targets():
            why = fitting(VERBS[verb], targets)
            if why:
                self._wspilot.tell(f"{verb} is {why}" if why.startswith("for") else
                                   f"{verb}: {why}", "warning")  # fmt: skip
            else:
                self._do(verb, targets)

    def action_destroy(self) -> None:
        """Ask, naming what is lost."""
        if targets := self._targets():
            self._do("destroy", targets)

    def action_extend(self) -> None:
        """Ask by how much; of a VM or group its workspace is meant."""
        from wspilot.tui.acting import targets_of

        keys = []
        for one in self._targets():
            ws = self.model.workspace_of(one.key)
            keys.append(f"workspaces/{ws['id']}" if ws else one.key)
        if targets := targets_of(self.model, list(dict.fromkeys(keys))):
            self._do("extend", targets)

    @work(exit_on_error=False)
    async def _do(self, verb: str, targets: tuple[Target, ...]) -> None:
        from wspilot.tui.acting import Order, carry_out

        if verb in ("console", "ssh"):
            self._wspilot.reach(verb, targets[0])
            return
        extra = await self._extra(verb, targets)
        if extra is None:
            return
        marked = [one.key for one in targets]
        self.table.mark([key for key in marked if key in self.table.marks], False)
        self.dirty = True
        order = Order(verb, targets, extra)
        await carry_out(self._wspilot.source, order, self.model, self._wspilot.tell)
        self.dirty = True

    async def _extra(self, verb: str, targets: tuple[Target, ...]) -> dict[str, object] | None:
        """What else a verb needs to know; None: it is not meant after all."""
        if verb == "destroy":
            from wspilot.tui.loss import loss_of
            from wspilot.tui.screens.confirm import Confirm

            loss = loss_of(self.model, targets, self._clock())
            meant = await self.app.push_screen_wait(Confirm(loss))
            return {"abandon": loss.silent if meant == "abandon" else ()} if meant else None
        if verb == "extend":
            from wspilot.tui.screens.ask import Ask

            names = ", ".join(one.name for one in targets[:4])
            by = await self.app.push_screen_wait(
                Ask(f"Extend {names} by", "30m", "30m, 1h, 1h30m, ...", check_duration)
            )
            return {"by": by} if by else None
        if verb == "save":
            from wspilot.tui.screens.ask import Ask, check_image

            title = f"Keep the disk of {targets[0].name} as image"
            name = await self.app.push_screen_wait(
                Ask(title, "", "a name for the new image", check_image)
            )
            return {"image": name} if name else None
        return {}

    @work(exclusive=True, exit_on_error=False, group="script")
    async def show_script(self, ws: dict[str, object]) -> None:
        """What the batch system was given for it; before that, what it would be, by a dry run."""
        from wspilot.tui.builder import asking
        from wspilot.tui.builder.draft import like_workspace
        from wspilot.tui.screens.paper import Paper

        like = like_workspace(ws)
        del like["workspace"]["name"]  # which may be taken
        source = self._wspilot.source
        try:
            said, lines = "submitted", await asking.submitted(source, str(ws["id"]))
            if not lines:
                said, lines = "it would be submitted now", await asking.script(source, like)
        except WspilotError as error:
            self._wspilot.tell(f"no job script: {asking.told(error)}", "error")
            return
        self.app.push_screen(Paper(f"{ws['name']}: the job script, as {said}", lines))

    # -- copying

    def action_copy_address(self) -> None:
        """The selection's addresses; of a slot its job, of a node or an event its words."""
        key = self.table.cursor_key or ""
        doc = self.model.doc(key) or {}
        vms = self.model.vms_of(key)
        found = [str(nic.get("ip")) for vm in vms for nic in vm["nics"] if nic.get("ip")]
        if found:
            self._copy(
                "\n".join(found), "address" if len(found) == 1 else f"{len(found)} addresses"
            )
        elif said := doc.get("job") or doc.get("text") or doc.get("name"):
            self._copy(str(said), "it")
        else:
            self._nothing_to_copy()

    def action_copy_row(self) -> None:
        """The selection's item as JSON; a group is one in its workspace's."""
        key = self.table.cursor_key or ""
        doc = self.model.group(key) if key.startswith("groups/") else self.model.doc(key)
        if doc:
            self._copy(json.dumps(doc, default=str), "its JSON")
        else:
            self._nothing_to_copy()

    def _nothing_to_copy(self) -> None:
        self._wspilot.tell("There is nothing to copy here.", "info")

    def _copy(self, text: str, what: str) -> None:
        """By OSC 52; it is also said, for terminals that swallow it."""
        self.app.copy_to_clipboard(text)
        first = text.split("\n")[0]
        self._wspilot.tell(f"copied {what}: {clean(first, 100)}", "info")

    # -- the builder

    def action_deploy(self) -> None:
        """Build an ensemble; the new workspace is then under the cursor."""
        self._build(None)

    def action_clone(self) -> None:
        """Build one like the selected workspace."""
        ws = self.model.workspace_of(self.table.cursor_key or "")
        if ws is None:
            self._wspilot.tell("Choose a workspace to build another like it.", "info")
        else:
            self._build(ws)

    @work(exit_on_error=False)
    async def _build(self, like: dict[str, object] | None) -> None:
        from wspilot.tui.builder.draft import left_out, like_workspace
        from wspilot.tui.screens.build import Build

        draft = like_workspace(like) if like else None
        if like and (missing := left_out(like)):
            self._wspilot.tell(missing, "warning")
        made = await self.app.push_screen_wait(Build(self._wspilot, draft))
        if made:
            self._wspilot.tell("Deployed: it comes up here, all of it or nothing.", "info")
            self.show_view("leases")
            self._clear_filter()
            self.table.select(f"workspaces/{made}")
            self.detail.turn("Overview")
            if not self.detail.display:  # narrow: its barrier is what one wants to see now
                self.action_details()


def check_duration(text: str) -> str:
    """What is wrong with a duration; empty: nothing."""
    try:
        parse_duration(text, "by")
    except WspilotError as error:
        return f"{error.message}. {error.hint}"
    return ""
