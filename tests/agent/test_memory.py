"""What is open stays open over a restart of the agent, and only over that."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from gpuward.agent.detectors import Detector
from gpuward.agent.heard import Heard
from gpuward.agent.hysteresis import Change, State, Verdict, fold
from gpuward.agent.kinds import KINDS
from gpuward.agent.memory import (
    Memory,
    decode,
    encode,
    ended_unheard,
    heard_of,
    state_of,
)
from gpuward.agent.model import Action, Evidence, Finding, Outcome, Result, Subject
from gpuward.agent.spool import Spool
from gpuward.v1 import finding_pb2

# Raised after 3 s, cleared after 30 s.
KIND = "process.memory.fragmentation"


def finding(outcome=Outcome.BAD, kind=KIND):
    return Finding(
        kind,
        Subject(gpu="GPU-1", process="vllm", pid=7),
        "stranded",
        outcome=outcome,
        result=Result.WARN,
        evidence=(Evidence("stranded", 5.0, "bytes", threshold=1.0, at_s=99.5),),
        action=Action.RESTART_APPLICATION,
        causes=("x",),
    )


def tick(state, now_s, *said):
    return fold(state, [Verdict("detector.x", said)], now_s)


@pytest.fixture
def before():
    """An agent that has raised one finding and sees another coming."""
    state = State("before")
    for now_s in (100.0, 103.0):
        state, _ = tick(state, now_s, finding())
    state, _ = tick(state, 104.0, finding(), finding(kind="gpu.memory.saturation"))
    return state


def kept(state, heard=()):
    return encode(state, "boot-1", Heard(heard), 1_800_000_000.0)


def read(data, *, now_s=200.0, boot_id="boot-1"):
    return state_of(decode(data), boot_id=boot_id, instance="after", now_s=now_s)


def restarted(state, **changes):
    return read(kept(state), **changes)


def test_what_is_open_comes_back_whole(before):
    """Same id, same since: to the coordinator nothing has happened."""
    assert restarted(before).open_findings == before.open_findings
    assert len(before.open_findings) == 1


def test_it_is_not_raised_again(before):
    state, changes = tick(restarted(before), 200.0, finding())

    assert changes == ()
    assert state.open_findings[0].finding_id == "before-1"
    assert state.open_findings[0].count == 3


def test_it_clears_when_it_is_seen_to_be_gone(before):
    """Not by the time that nobody was looking."""
    state, first = tick(restarted(before, now_s=9_000.0), 9_000.0)
    state, early = tick(state, 9_029.9)
    state, late = tick(state, 9_030.0)

    assert (first, early) == ((), ())
    assert [change for change, _ in late] == [Change.CLEARED]


def test_a_new_finding_does_not_take_an_old_id(before):
    state = restarted(before)
    for now_s in (200.0, 205.0):
        state, _ = tick(state, now_s, finding(), finding(kind="gpu.memory.saturation"))

    assert [opened.finding_id for opened in state.open_findings] == ["before-1", "after-1"]


def test_after_a_reboot_nothing_is_remembered(before):
    assert restarted(before, boot_id="boot-2") == State("after")


@pytest.mark.parametrize(
    ("heard", "boot_id", "events"),
    [
        pytest.param([], "boot-2", 1, id="nobody knows that it was"),
        pytest.param(["before-1"], "boot-2", 0, id="the coordinator knows"),
        pytest.param([], "boot-1", 0, id="it is open still"),
    ],
)
def test_what_a_reboot_ended_unheard_is_an_event(before, heard, boot_id, events):
    """With the wall times that it had."""
    items = ended_unheard(decode(kept(before, heard)), boot_id=boot_id, node="n1")
    findings = [finding_pb2.Finding.FromString(item.data) for item in items]

    assert len(items) == events
    for said in findings:
        assert (said.finding_id, said.kind) == ("before-1", KIND)
        assert said.since.seconds == 1_800_000_100
        assert said.state == finding_pb2.FINDING_STATE_CLEARED
        assert said.dedup_key.startswith("n1|")


@pytest.mark.parametrize(
    ("heard", "boot_id", "is_known"),
    [([], "boot-1", False), (["before-1"], "boot-1", True), (["before-1"], "boot-2", False)],
)
def test_whom_the_coordinator_knows_of_is_remembered(before, heard, boot_id, is_known):
    known = heard_of(decode(kept(before, heard)), boot_id)

    assert ("before-1" in known) is is_known


@pytest.mark.parametrize(
    ("data", "is_said"),
    [
        pytest.param(b"", False, id="the first start"),
        pytest.param(b"{", True, id="damaged"),
        pytest.param(b'{"boot_id": "boot-1"}', True, id="of another version"),
    ],
)
def test_what_cannot_be_read_is_forgotten(data, is_said):
    with capture_logs() as logs:
        state = read(data)

    assert state == State("after")
    assert [log["event"] for log in logs] == ["findings.forgotten"] * is_said


def test_a_kind_that_is_no_more_is_forgotten(before):
    data = kept(before).replace(KIND.encode(), b"gpu.of.old")

    assert read(data) == State("after")


async def test_each_change_is_kept_on_disk(make_judge, clock, tmp_path):
    def fragmented(window):
        yield finding()

    spool = Spool(tmp_path / "spool.db", wall_s=1_800_000_000.0)
    judge = make_judge(detectors=(Detector(KINDS[KIND], fragmented),))
    async with asyncio.timeout(200), asyncio.TaskGroup() as group:
        remembering = group.create_task(Memory(judge, spool).run())
        for _ in range(4):
            judge.tick()
            await clock.advance(1.0)
        while judge.unsaved.is_set():  # noqa: ASYNC110 - cleared by the task, set by the judge
            await asyncio.sleep(0.001)
        await spool.after(0, 1)
        remembering.cancel()
    await spool.close()

    again = Spool(tmp_path / "spool.db", wall_s=1_800_000_000.0)
    state = read(again.remembered, now_s=2_000.0)
    await again.close()
    assert state.open_findings == judge.state.open_findings
    assert len(state.open_findings) == 1
