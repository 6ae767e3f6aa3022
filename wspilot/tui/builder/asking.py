"""What the daemon says of an ensemble: the catalogue, the check, the script, the new workspace.

Every answer is taken apart here: one that is not understood (of another release) is an error in
words like any other, so that nothing that was asked for ends in silence. Raises WspilotError only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from wspilot.errors import NoDaemon, TimedOut, WspilotError
from wspilot.text import clean, format_duration, format_size
from wspilot.tui.builder.cost import cost
from wspilot.tui.builder.draft import Doc
from wspilot.tui.source import Source
from wspilot.tui.widgets.columns import fit
from wspilot.tui.words import in_words

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Site:
    """What there is to choose from: by field (value, words); and the same to be read."""

    types: tuple[str, ...]
    choices: dict[str, list[tuple[str, str]]]
    lines: tuple[str, ...]


async def site(source: Source) -> Site:
    """The catalogue and the images."""
    types = await _ask(source, "types", lambda answer: list(map(_type, answer["types"])))
    images = await _ask(source, "images", lambda answer: [
        clean(str(one["name"]), 60) for one in answer["images"] if not one.get("fault")
    ])  # fmt: skip
    lines = [f"  {fit(name, 12)}  {size}, {rest}" for name, size, rest in types]
    said = ", ".join(images) or "none; wspilot images add brings one"
    return Site(
        tuple(name for name, _, _ in types),
        # The name stands in the field, however narrow; the second line only where one chooses.
        {"type": [(name, f"{name}\n  {size}") for name, size, _ in types],
         "image": [(name, name) for name in images]},
        ("Lease types here", *lines, f"Images here: {said}"),
    )  # fmt: skip


def _type(one: Doc) -> tuple[str, str, str]:
    disk, limit = format_size(one["disk_mib"]), format_duration(one["max_duration_s"])
    return (clean(str(one["name"]), 60), f"{one['cpus']} cpu, {format_size(one['memory_mib'])}",
            f"disk {disk}, at most {limit}")  # fmt: skip


async def plan(source: Source, doc: Doc) -> list[str]:
    """What it would cost, where it may be deployed: a dry run."""
    return await _ask(
        source, "deploy", lambda answer: cost(answer["plan"]), ensemble=doc, dry_run=True
    )


async def script(source: Source, doc: Doc) -> list[str]:
    """The same, and the job script."""

    def read(answer: Doc) -> list[str]:
        return [*cost(answer["plan"]), "", *str(answer["script"]).split("\n")]

    return await _ask(source, "deploy", read, ensemble=doc, show_script=True)


async def submitted(source: Source, id: str) -> list[str]:
    """The job scripts of a lease as they went to the batch system; none before its first slot."""

    def read(answer: Doc) -> list[str]:
        found = [one for one in answer["logs"] if one["name"] == "job.sh"]
        return [f"==> {one['slot']}/job.sh <==\n{one['text']}" for one in found]

    return await _ask(source, "logs", read, id=id)


async def deploy(source: Source, doc: Doc, token: str) -> str:
    """The id of the new workspace. The same token deploys once, however often it is sent."""
    return await _ask(
        source, "deploy", lambda answer: str(answer["workspace"]["id"]), ensemble=doc, token=token
    )


def unsure(error: WspilotError) -> bool:
    """It may have been done all the same."""
    return isinstance(error, (NoDaemon, TimedOut, NotUnderstood))


class NotUnderstood(WspilotError):
    """An answer, but not of the kind that is known here."""


async def _ask(source: Source, method: str, read: Callable[[Doc], Answer], **params: Any) -> Answer:
    try:
        return read(await source.call(method, **params))
    except WspilotError:
        raise
    except Exception as error:  # whatever another release may have sent, or the way there may do
        raise NotUnderstood(
            f"the daemon's answer to {method} is not understood ({clean(repr(error), 200)})",
            "is it another release? end it and start this one: wspilot daemon --detach",
        ) from None


def told(error: WspilotError) -> str:
    """An error in one line."""
    return in_words(error, 1000)
