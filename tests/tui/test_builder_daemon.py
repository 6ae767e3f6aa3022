"""The builder and a daemon that is away, refuses, is slow or of another release."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.tui.builder import Bench, Gated, bench
from tests.tui.stage import Scripted, told
from wspilot.errors import Code, NoDaemon, Refused, TimedOut, UsageError, WspilotError
from wspilot.tui.builder.sent import KEPT_S, Sent
from wspilot.tui.screens.build import Build
from wspilot.tui.screens.main import MainScreen


class Odd(Scripted):
    """Answers what it is told to answer, by method (and `dry` for the check)."""

    def __init__(self, **answers: Any) -> None:
        super().__init__()
        self.answers = answers

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        answer = self.answers.get("dry" if params.get("dry_run") else method)
        if answer is None:
            return await super().call(method, **params)
        self.calls.append((method, params))
        if isinstance(answer, BaseException):
            raise answer
        return answer  # type: ignore[no-any-return]


def tokens(one: Bench) -> list[str]:
    return [given["token"] for _, given in one.source.calls if "token" in given]


async def test_without_a_daemon_it_is_told_and_asked_again_when_it_is_there() -> None:
    source = Odd()
    async with bench(source=source) as one:
        source.alive.clear()
        source.inbox.put_nowait(None)
        source.answers = {name: NoDaemon("no daemon runs here", "start one: wspilot daemon")
                          for name in ("dry", "types", "images", "deploy")}  # fmt: skip
        await one.type("w-name", "later")
        assert one.verdict == "✖ no daemon runs here; start one: wspilot daemon"
        await one.press("f5")
        assert "cannot be deployed as it stands" in told(one.app)[-1] and not tokens(one)
        await one.until(lambda: not one.app.connected)
        await one.until(lambda: not one.screen._connected)
        source.answers = {}
        source.alive.set()
        one.app.retry()
        await one.until(lambda: one.screen._good is not None)
        assert one.state.endswith("can be deployed: F5")
        assert one.doc["workspace"]["name"] == "later"


async def test_a_catalogue_that_is_not_known_is_told_and_comes_later() -> None:
    source = Odd(types=NoDaemon("no daemon runs here", "start one"))
    async with bench(source=source) as one:
        assert (
            one.catalogue == "What there is to lease is not known: no daemon runs here; start one"
        )
        assert one.field("g-type") == "small", "what stands in the TOML is shown"
        source.answers = {}
        one.screen._offer()
        await one.until(lambda: "Images here" in one.catalogue)


OLD: tuple[dict[str, Any], ...] = (
    {}, {"plan": None}, {"plan": {}}, {"plan": {"slots": 3}}, {"plan": {"slots": [{}]}},
    {"plan": {"slots": [], "walltime": [{}], "node_hours": 1, "lease_s": 1, "walltime_s": 1}},
    {"plan": {"slots": [], "walltime": [], "node_hours": "x", "lease_s": 1, "walltime_s": 1}},
)  # fmt: skip


async def test_an_answer_of_another_release_is_told_and_not_swallowed() -> None:
    source = Odd()
    async with bench(source=source) as one:
        for answer in OLD:
            source.answers = {"dry": answer}
            one.screen._check()
            await one.checked()
            assert "the daemon's answer to deploy is not understood" in one.verdict, answer
            assert one.state.endswith("cannot be deployed")
            source.answers = {"deploy": answer}
            await one.press("f6")
            assert "the daemon's answer to deploy is not understood" in told(one.app)[-1]
        for name, rubbish in (("types", {}), ("types", {"types": [{}]}), ("images", {"images": 1})):
            source.answers = {name: rubbish}
            one.screen._offer()
            await one.until(lambda name=name: f"answer to {name} is not under" in one.catalogue)
        source.answers = {"dry": UsageError("the daemon does not know this: deploy", "another?")}
        one.screen._check()
        await one.checked()
        assert one.verdict == "✖ the daemon does not know this: deploy; another?"


@pytest.mark.parametrize(
    "answer",
    [NoDaemon("the connection to the daemon has ended"), TimedOut("no answer within 30 s"),
     {"workspace": {}}, {}, {"workspace": None}, ConnectionResetError("reset")],
    ids=str,
)  # fmt: skip
async def test_where_nobody_knows_whether_it_is_deployed_it_is_sent_again_as_the_same(
    answer: Any,
) -> None:
    source = Odd(deploy=answer)
    async with bench(source=source) as one:
        await one.type("w-name", "once")
        await one.press("f5")
        await one.until(lambda: "It is not known whether it is deployed" in told(one.app)[-1])
        await one.checked()
        await one.type("w-name", "other")
        await one.type("w-name", "once")  # there and back: it is the same request
        source.answers = {}
        await one.press("f5")
        await one.until(lambda: isinstance(one.app.screen, MainScreen))
        assert len(tokens(one)) == 2 and len(set(tokens(one))) == 1


async def test_a_builder_that_is_opened_again_sends_the_same_and_after_a_lease_another(
    tmp_path: Path,
) -> None:
    source = Odd(deploy=TimedOut("no answer within 30 s"))
    async with bench(tmp_path, source=source) as one:

        async def reopened() -> None:
            await one.until(lambda: isinstance(one.app.screen, MainScreen))
            await one.pilot.press("n")
            await one.until(lambda: isinstance(one.app.screen, Build))
            await one.checked()

        await one.type("w-name", "once")
        await one.press("f5")
        await one.until(lambda: "It is not known whether it is deployed" in told(one.app)[-1])
        await one.press("escape")
        await reopened()
        assert one.field("w-name") == "once", "the draft is back"
        source.answers = {"deploy": {"workspace": {"id": "d0000000"}}}
        await one.press("f5")
        await reopened()
        assert one.field("w-name") == "", "it is leased: the draft is gone"
        await one.type("w-name", "once")
        await one.press("f5")
        await one.until(lambda: isinstance(one.app.screen, MainScreen))
        lost, again, another = tokens(one)
        assert lost == again != another


async def test_after_a_crash_an_ensemble_without_a_name_is_sent_again_as_the_same(
    tmp_path: Path,
) -> None:
    found = []
    for answer in (TimedOut("no answer within 30 s"), None, None):
        source = Odd(deploy=answer)
        async with bench(tmp_path, source=source) as one:  # the one before has gone without a word
            await one.type("w-duration", "90m")
            assert "name" not in one.doc["workspace"]
            await one.press("f5")
            await one.until(lambda: bool(tokens(one)) and not one.screen._sending)
            found += tokens(one)
    lost, again, another = found
    assert lost == again, "nobody knew whether it was leased"
    assert another != again, "it was leased: the same once more is another one"


async def test_a_token_is_on_the_disk_before_it_is_sent_and_a_torn_file_is_none(
    tmp_path: Path,
) -> None:
    kept = tmp_path / "tui" / "sent.json"
    there = []

    class Looks(Scripted):
        async def call(self, method: str, **params: Any) -> dict[str, Any]:
            if "token" in params:
                there.append(params["token"] in kept.read_text("utf-8"))
            return await super().call(method, **params)

    kept.parent.mkdir()
    for torn in ("[1, 2]", '{"a": 1}', "{", '{"a": ["t", "x"]}'):
        kept.write_text(torn)
        async with bench(tmp_path, source=Looks()) as one:
            await one.press("f5")
            await one.until(lambda: isinstance(one.app.screen, MainScreen))
            assert tokens(one)[0] not in kept.read_text("utf-8"), "leased: no longer kept"
    assert there == [True] * 4


async def test_a_token_of_yesterday_is_another_lease_by_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Sent(tmp_path / "tui" / "sent.json")
    first = one.token("a")
    assert Sent(tmp_path / "tui" / "sent.json").token("a") == first
    later = time.time() + KEPT_S + 60
    monkeypatch.setattr("wspilot.tui.builder.sent.time.time", lambda: later)
    assert Sent(tmp_path / "tui" / "sent.json").token("a") != first
    assert one.token("a") != first


def test_what_one_interface_has_leased_another_does_not_bring_back(tmp_path: Path) -> None:
    kept = tmp_path / "tui" / "sent.json"
    one, other = Sent(kept), Sent(kept)
    first = one.token("a")
    other.token("b")
    one.done("a")
    other.done("b")
    assert one.token("a") != first


def test_what_the_disk_refuses_is_kept_in_mind(tmp_path: Path) -> None:
    kept = tmp_path / "tui" / "sent.json"
    one = Sent(kept)
    first = one.token("a")
    kept.parent.rename(tmp_path / "away")
    kept.parent.touch()  # nothing can be written below it
    one.done("a")
    second = one.token("a")
    assert second != first and one.token("a") == second


async def test_another_ensemble_is_another_request() -> None:
    source = Odd(deploy=TimedOut("no answer"))
    async with bench(source=source) as one:
        for name in ("a", "b"):
            await one.type("w-name", name)
            await one.press("f5")
            await one.checked()
        assert len(set(tokens(one))) == 2


async def test_a_refusal_is_told_with_what_to_do_and_the_builder_stays() -> None:
    source = Odd(deploy=Refused("a workspace named 'x' is active", "give another name"))
    async with bench(source=source) as one:
        await one.type("w-name", "x")
        await one.press("f5")
        said = "not deployed: a workspace named 'x' is active; give another name"
        await one.until(lambda: told(one.app)[-1] == said)
        assert isinstance(one.app.screen, Build) and one.doc["workspace"]["name"] == "x"
        source.answers = {"dry": Refused("a workspace named 'x' is active", "give another name")}
        one.screen._check()
        await one.checked()
        assert one.verdict == "✖ a workspace named 'x' is active; give another name"
        assert not one.screen.query(".pair.-bad")


async def test_a_slow_daemon_blocks_no_key() -> None:
    source = Gated()
    async with bench(source=source) as one:
        source.gate.clear()
        await one.pilot.press("a", "b", "f2", "f9")
        await one.pilot.pause()
        assert one.doc["workspace"]["name"] == "ab" and len(one.doc["group"]) == 2
        assert one.state == "is being checked"
        source.gate.set()
        await one.checked()
        assert one.state.endswith("can be deployed: F5")


async def test_a_fault_of_our_own_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench() as one:
        monkeypatch.setattr("wspilot.tui.screens.drafting.faults", lambda _: 1 / 0)
        await one.write("[workspace]\n")
        assert "went wrong: ZeroDivisionError" in told(one.app)[-1]
        assert "went wrong: ZeroDivisionError" in one.verdict


async def test_every_code_of_an_error_has_its_outcome() -> None:
    source = Odd()
    async with bench(source=source) as one:
        for code in Code:
            source.answers = {"deploy": WspilotError(f"because of {code.name}", "do this", code)}
            await one.press("f5")
            said = f"because of {code.name}; do this"
            await one.until(lambda said=said: said in told(one.app)[-1])
            await one.checked()
