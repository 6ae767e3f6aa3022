"""The pilot's decisions as a dialogue, in virtual time."""

from __future__ import annotations

import pytest

from tests.unit.node.dialogue import Talk
from wspilot.messages import Kind, Verb
from wspilot.node.core import events as e
from wspilot.node.core import wake_at
from wspilot.node.core.mail import MOST, WINDOW, Mailbox


def test_a_lease_from_begin_to_finish() -> None:
    t = Talk().begin()
    assert t.kinds() == ["started"]
    assert t.said("started")[0]["age_s"] == 10
    assert t.asked(e.Reserve)
    t >> e.Reserved(t.now, 64, True)
    assert t.said("reserved")[0]["taken_mib"] == 64 and t.said("reserved")[0]["kvm"] is True
    t.create()
    assert [one.vm for one in t.asked(e.Create)] == ["v1"] and t.vm() == "starting"
    t.now += 2
    t >> e.Created(t.now, "v1")
    assert t.vm() == "booting"
    t.now += 3
    t >> e.VmSaid(t.now, "v1", "ready")
    spans = {span["name"]: span["seconds"] for span in t.said("vm")[-1]["spans"]}
    assert spans == {"propagate": 0, "create": 2, "boot": 3}
    assert t.said("vm")[-1]["spans"][0]["start"] == 5000
    t.order(Verb.RELEASE, cause="enough")
    assert t.said("releasing") == [{"cause": "enough", "over": False}]
    (destroy,) = t.asked(e.Destroy)
    assert destroy.grace_s == 14 and not t.asked(e.Restore)
    t.now += 1
    t >> e.Destroyed(t.now, "v1")
    assert t.vm() == "terminated" and t.asked(e.Restore)
    t.now += 1
    t >> e.Restored(t.now, ("64 MiB",))
    assert t.said("released")[0]["undone"] == ["64 MiB"]
    assert t.said("released")[0]["spans"][0]["seconds"] == 1
    assert t.asked(e.Finish)[0].code == 0
    assert t.kinds()[-1] == "released" and "killed" not in t.kinds()
    assert [letter.seq for letter in t.letters] == list(range(1, len(t.letters) + 1))


# -- commands


def test_every_id_is_answered_once_however_often_it_is_seen() -> None:
    t = Talk().ready()
    t.order(Verb.PING, re="p").order(Verb.PING, seq=1, re="p").order(Verb.PING, seq=1, re="p")
    assert [answer["re"] for answer in t.said("answer")] == ["p"]


def test_commands_are_applied_in_their_order() -> None:
    t = Talk().ready()
    t.order(Verb.PING, seq=2, re="second")
    assert t.said("answer") == []
    t.order(Verb.PING, seq=1, re="first")
    assert [answer["re"] for answer in t.said("answer")] == ["first", "second"]


def test_a_missing_command_is_waited_for_not_for_ever() -> None:
    t = Talk().ready().order(Verb.PING, seq=2)
    assert not t.later(4.9).said("answer")
    assert t.later(0.1).said("answer")


def test_a_command_never_overtakes_one_that_waits() -> None:
    t = Talk().begin().create().order(Verb.DESTROY, vm="v1").later(6)
    assert not t.said("answer")
    t >> e.Reserved(t.now)
    assert [answer["ok"] for answer in t.said("answer")] == [True, True]


def test_release_waits_for_nothing() -> None:
    t = Talk().ready().order(Verb.RELEASE, seq=9)
    assert t.said("answer")[0]["ok"] and t.asked(e.Restore)


def test_a_command_whose_time_is_over_is_answered_as_expired() -> None:
    t = Talk().begin().create(vm="v1", memory_mib=1)
    t2 = Talk().begin()
    t2.order(Verb.CREATE, ttl_s=3)
    assert not t.said("answer") and not t2.said("answer")
    (answer,) = t2.later(3).said("answer")
    assert not answer["ok"] and answer["code"] == 6 and "expired" in answer["message"]


def test_a_create_waits_until_the_node_is_ready() -> None:
    t = Talk().begin().create()
    assert not t.asked(e.Create)
    t >> e.Reserved(t.now)
    assert t.asked(e.Create)


@pytest.mark.parametrize(
    ("change", "code"), [({"cpus": 0}, 2), ({"id": "../x"}, 2), ({"uuid": "x"}, 2)]
)
def test_a_bad_create_is_refused_in_words(change: dict[str, object], code: int) -> None:
    t = Talk().ready().create(**change)  # type: ignore[arg-type]
    (answer,) = t.said("answer")
    assert answer["code"] == code and next(iter(change)) in answer["message"]
    assert not t.state.vms


def test_a_vm_is_not_created_twice_nor_while_leaving() -> None:
    t = Talk().ready().create().create()
    assert [answer["ok"] for answer in t.said("answer")] == [True, False]
    t.order(Verb.RELEASE).create("v2")
    assert "given back" in t.said("answer")[-1]["message"]


def test_destroy_of_a_vm_that_never_was_is_proof_that_it_is_not_here() -> None:
    t = Talk().ready().order(Verb.DESTROY, vm="v9")
    assert t.said("answer")[0]["code"] == 4
    assert t.said("killed")[0]["vms"] == ["v9"]


# -- VMs


def test_destroy_of_one_vm_leaves_the_others() -> None:
    t = Talk().ready().running("v1", "v2").order(Verb.DESTROY, vm="v1", grace_s=3)
    assert t.asked(e.Destroy) == [e.Destroy("v1", 3.0)] and t.vm() == "stopping"
    t >> e.Destroyed(t.now, "v1")
    assert t.vm() == "terminated" and t.vm("v2") == "running"
    assert t.said("vm")[-1]["spans"][-1]["name"] == "stop"


def test_destroy_while_it_is_created() -> None:
    t = Talk().ready().create().order(Verb.DESTROY, vm="v1")
    assert t.asked(e.Destroy)
    t >> e.Destroyed(t.now, "v1")
    assert t.vm() == "stopping"
    t >> e.CreateFailed(t.now, "v1", "destroyed while it was being started")
    assert t.vm() == "terminated"


def test_created_after_its_destroy_is_destroyed_again() -> None:
    t = Talk().ready().create().order(Verb.DESTROY, vm="v1")
    t >> e.Destroyed(t.now, "v1") >> e.Created(t.now, "v1")
    assert t.asked(e.Destroy)
    t >> e.Destroyed(t.now, "v1")
    assert t.vm() == "terminated"


def test_a_guest_that_does_not_come_up_fails_with_its_cause() -> None:
    t = Talk().ready().create()
    t >> e.Created(t.now, "v1")
    assert wake_at(t.state) <= t.now + 20  # type: ignore[operator]
    t.later(19.9)
    assert t.vm() == "booting"
    t.later(0.1)
    assert t.vm() == "failed" and t.asked(e.Destroy)
    assert "within 20 s" in t.said("vm")[-1]["cause"]


def test_a_failed_create_leaves_nothing_to_destroy() -> None:
    t = Talk().ready().create()
    t >> e.CreateFailed(t.now, "v1", "no such image")
    assert t.vm() == "failed" and not t.asked(e.Destroy)
    t.order(Verb.DESTROY, vm="v1")
    assert t.vm() == "terminated"


def test_a_guest_that_ends_by_itself_has_failed() -> None:
    t = Talk().ready().running() >> e.VmSaid(1001, "v1", "exited", "code 1")
    assert t.vm() == "failed" and t.said("vm")[-1]["cause"] == "the guest ended by itself: code 1"


def test_late_words_of_a_vm_change_nothing() -> None:
    t = Talk().ready().running().order(Verb.DESTROY, vm="v1")
    t >> e.Destroyed(t.now, "v1")
    told = len(t.letters)
    t >> e.VmSaid(t.now, "v1", "ready") >> e.VmSaid(t.now, "v1", "exited")
    assert t.vm() == "terminated" and len(t.letters) == told


def test_a_process_only_vm_is_unproven() -> None:
    t = Talk().ready().create()
    t >> e.Created(t.now, "v1") >> e.VmSaid(t.now, "v1", "ready", "unproven")
    assert t.said("vm")[-1]["unproven"] is True


# -- the end


def test_the_lease_runs_from_the_last_vms_running_without_a_word() -> None:
    t = Talk(lease_s=100.0).ready().running("v1")
    t.later(60).running("v2")
    t.later(99)
    assert "releasing" not in t.kinds()
    t.later(1)
    assert t.said("releasing") == [{"cause": "the lease is over", "over": True}]
    assert {one.vm for one in t.asked(e.Destroy)} == {"v1", "v2"}


def test_a_vm_on_its_way_holds_the_leases_beginning_back() -> None:
    t = Talk(lease_s=10.0).ready().running("v1").create("v2")
    t.later(15)
    assert "releasing" not in t.kinds()


def test_the_lease_command_holds_over_the_own_count() -> None:
    t = Talk(lease_s=10.0).ready().running().order(Verb.LEASE, seconds=50)
    t.later(49)
    assert "releasing" not in t.kinds()
    assert t.later(1).said("releasing")[0]["over"] is True


def test_extend_beyond_the_hard_end_is_refused_naming_what_is_possible() -> None:
    # The launcher began at 990: hard end = 990 + 7200 - 60 - 15 - 5 - 60 = 8050, now = 1000.
    t = Talk().ready().order(Verb.LEASE, seconds=9999)
    assert t.said("answer")[-1] == {
        "re": "o1", "ok": True, "code": 0, "message": "", "data": {"seconds": 7050.0}
    }  # fmt: skip
    t.order(Verb.LEASE, seconds=7051)
    answer = t.said("answer")[-1]
    assert answer["code"] == 5 and answer["data"] == {"seconds": 7050.0}
    t.order(Verb.LEASE, seconds=7050)
    assert t.said("answer")[-1]["ok"]


def test_the_hard_end_needs_no_vm_and_no_daemon() -> None:
    t = Talk().ready()
    t.later(7049)
    assert "releasing" not in t.kinds()
    assert t.later(1).said("releasing")[0]["over"] is False


def test_preempted_is_the_first_word_and_the_stop_share_is_kept() -> None:
    t = Talk(grace_s=10.0).ready().running()
    told = len(t.letters)
    t >> e.Term(t.now)
    assert isinstance(t.effects[0], e.Letter) and t.effects[0].kind == "preempted"
    assert t.asked(e.Destroy)[0].grace_s == 5.0
    t >> e.Term(t.now)
    assert t.effects == ()
    t.later(5.9)
    assert not t.asked(e.Restore)
    t.later(0.1)
    assert t.asked(e.Restore), "a VM that does not end is left to the journal"
    t >> e.Restored(t.now, ())
    assert [letter.kind for letter in t.letters[told:]] == [
        "preempted", "vm", "vm", "killed", "released"
    ]  # fmt: skip
    assert t.said("killed")[0]["vms"] == ["v1"]
    finish = t.asked(e.Finish)[0]
    assert finish.code == 0 and finish.flush_s == pytest.approx(3.7)


def test_no_grace_means_no_grace() -> None:
    t = Talk(grace_s=0.0).ready().running() >> e.Term(1000.0)
    assert t.asked(e.Destroy)[0].grace_s == 0


def test_term_while_releasing_hurries() -> None:
    t = Talk(grace_s=5.0).ready().running().order(Verb.RELEASE)
    t >> e.Term(t.now)
    assert t.asked(e.Destroy) == [e.Destroy("v1", 0.0)]
    assert t.later(3).asked(e.Restore)


def test_term_while_reserving_gives_it_up_and_restores() -> None:
    t = Talk().begin() >> e.Term(1000.0)
    assert t.asked(e.GiveUpReserve) and not t.asked(e.Restore)
    t >> e.ReserveFailed(t.now, "given up")
    assert t.asked(e.Restore)
    t >> e.Restored(t.now)
    assert t.kinds()[-1] == "released" and t.asked(e.Finish)[0].code == 0


def test_release_while_reserving() -> None:
    t = Talk().begin().order(Verb.RELEASE)
    assert t.asked(e.GiveUpReserve)
    t >> e.Reserved(t.now, 64)
    assert t.asked(e.Restore) and "reserved" not in t.kinds()


def test_a_failed_reserve_is_restored_and_told() -> None:
    t = Talk().begin() >> e.ReserveFailed(1000.0, "not enough memory")
    assert t.asked(e.Restore)
    t >> e.Restored(t.now)
    assert t.said("failed")[0]["cause"] == "not enough memory" and t.said("failed")[0]["clean"]
    assert t.asked(e.Finish)[0].code == 1


def test_what_cannot_be_undone_makes_the_node_dirty() -> None:
    t = Talk().ready().order(Verb.RELEASE) >> e.RestoreFailed(1000.0, "memory is stuck")
    assert t.said("failed")[0] | {"spans": []} == {
        "cause": "memory is stuck", "causes": [], "clean": False, "boot_id": "b", "spans": [],
        "undone": [],
    }  # fmt: skip


def test_root_is_refused_before_anything_is_touched() -> None:
    t = Talk(allow_root=False).begin(uid=0)
    assert not t.asked(e.Reserve)
    t >> e.Restored(t.now)
    assert "root" in t.said("failed")[0]["cause"]


def test_a_repair_job_ends_by_itself() -> None:
    t = Talk(repair=True).begin() >> e.Reserved(1000.0, undone=("VM v1 ended",))
    t >> e.Restored(t.now)
    assert t.said("released")[0]["undone"] == ["VM v1 ended"]
    assert t.asked(e.Finish)[0].code == 0


def test_a_vm_that_does_not_die_does_not_hold_the_node_for_ever() -> None:
    t = Talk().ready().running().order(Verb.RELEASE)
    t >> e.DestroyFailed(t.now, "v1", "state D")
    assert not t.asked(e.Restore)
    assert t.later(20).asked(e.Restore)


# -- heartbeat and mail


def test_the_heartbeat_holds_the_whole_state() -> None:
    t = Talk(heartbeat_s=30.0).ready(64).running()
    t.later(30)
    (beat,) = t.asked(e.Beat)
    assert beat.data["state"] == "ready" and beat.data["taken_mib"] == 64
    assert beat.data["last_seq"] == t.letters[-1].seq == beat.seq
    assert [vm["state"] for vm in beat.data["vms"]] == ["running"]
    assert beat.data["undelivered"] == 0
    assert not t.later(1).asked(e.Beat)


def test_a_hung_courier_gets_a_window_and_logs_are_dropped_first() -> None:
    t = Talk().ready()
    t.store = False
    given = len(t.letters)
    for n in range(MOST + 50):
        t >> e.Noted(t.now, "info", f"line {n}")
    t.order(Verb.PING)
    assert len(t.letters) - given == WINDOW
    assert len(t.state.mail) == MOST and t.state.mail.dropped == 51
    t.store = True
    while t.state.mail.handed:
        t >> e.Stored(t.now, t.state.mail.handed[0].seq)
    assert not t.state.mail
    assert "answer" in t.kinds()
    assert [letter.seq for letter in t.letters] == list(range(1, len(t.letters) + 1))


def test_the_mailbox_drops_states_before_answers() -> None:
    box = Mailbox()
    for kind in (Kind.ANSWER, Kind.VM, *[Kind.ANSWER] * (MOST - 1)):
        box = box.post(kind, 0, 0, {})
    assert all(letter.kind == "answer" for letter in box.waiting)


# -- other pilots' journals

HERE = {"neighbours": ["bbbbbbbb"], "node_clean": True}


def test_what_was_undone_and_who_else_is_here_is_told() -> None:
    t = Talk().begin() >> e.Reserved(1000.0, 0, None, ("VM v9 ended",), HERE)
    assert t.said("reserved")[0]["undone"] == ["VM v9 ended"]
    assert (
        t.said("reserved")[0]["neighbours"] == ["bbbbbbbb"] and t.said("reserved")[0]["node_clean"]
    )
    assert "VM v9 ended" in t.said("log")[0]["text"] and t.kinds().index("log") < 2
    t.order(Verb.RELEASE) >> e.Restored(1000.0, (), {"neighbours": [], "node_clean": True})
    released = t.said("released")[0]
    assert released["clean"] is True and released["neighbours"] == []
    assert released["undone"] == ["VM v9 ended"]


def test_leftovers_that_cannot_be_undone_fail_the_pilot_as_dirty() -> None:
    left = ("a.journal: its guardian is still at work", "b.journal: reserve: stuck")
    t = Talk().begin()
    t >> e.ReserveFailed(1000.0, "dirty: " + "; ".join(left), False, ("VM v9 ended",), left)
    t >> e.Restored(1000.0, (), {"neighbours": [], "node_clean": False})
    failed = t.said("failed")[0]
    assert failed["cause"].startswith("dirty: ") and failed["clean"] is False
    assert failed["causes"] == list(left) and failed["undone"] == ["VM v9 ended"]
    assert failed["node_clean"] is False and t.asked(e.Finish)[0].code == 1


def test_a_repair_job_says_started_and_released_and_no_more() -> None:
    t = Talk(repair=True).begin() >> e.Reserved(1000.0, 0, None, ("VM v9 ended",), HERE)
    assert len(t.asked(e.Restore)) == 1
    t >> e.Restored(1000.0, (), HERE)
    assert t.kinds() == ["started", "log", "released"]
    released = t.said("released")[0]
    assert released["clean"] is True and released["undone"] == ["VM v9 ended"]
    assert released["neighbours"] == ["bbbbbbbb"]


def test_a_repair_job_that_is_released_early_or_gets_a_term_ends_all_the_same() -> None:
    t = Talk(repair=True).begin().order(Verb.RELEASE)
    t >> e.ReserveFailed(1000.0, "given up") >> e.Restored(1000.0, (), HERE)
    assert t.kinds()[-1] == "released"
    t = Talk(repair=True).begin() >> e.Term(1000.0)
    t >> e.Reserved(1000.0, 0, None, ("x",), HERE) >> e.Restored(1000.0, (), HERE)
    assert t.kinds()[-1] == "released" and t.said("released")[0]["undone"] == ["x"]


def test_so_many_leftovers_are_not_so_many_messages() -> None:
    undone = tuple(f"VM v{n} ended" for n in range(500))
    t = Talk().begin() >> e.Reserved(1000.0, 0, None, undone, HERE)
    assert len(t.said("log")) == 50


@pytest.mark.parametrize("seconds", [10**400, -1, 1e10, True, "60", None])
def test_a_command_with_a_time_that_is_none_is_refused_and_the_pilot_goes_on(
    seconds: object,
) -> None:
    """Found by the fuzzer: 10**400 seconds is JSON, and no float."""
    talk = Talk().ready()
    talk.running("v1")
    talk.order(Verb.LEASE, seconds=seconds)
    assert talk.said("answer")[-1]["ok"] is False
    talk.order(Verb.DESTROY, vm="v1", grace_s=seconds)
    assert talk.said("answer")[-1]["ok"] is True and talk.vm() == "stopping"


def test_a_create_that_comes_after_its_vms_destroy_is_refused() -> None:
    t = Talk().ready().order(Verb.DESTROY, seq=2, vm="v1").later(6)
    assert t.said("killed")[0]["vms"] == ["v1"]
    t.create(seq=1)
    assert not t.asked(e.Create) and "destroyed before" in t.said("answer")[-1]["message"]


def test_a_term_while_only_the_courier_is_waited_for_shortens_the_wait() -> None:
    t = Talk().ready().order(Verb.RELEASE)
    t >> e.Restored(t.now)
    first = t.asked(e.Finish)[0]
    t >> e.Term(t.now)
    assert t.asked(e.Finish)[-1].flush_s < 5 < first.flush_s
