"""When the tap walks over all blocks, and what it answers when it does not."""

from __future__ import annotations

import os
import time

import pytest

from gpuward.tap import walks as walks_module
from gpuward.tap.layout import EXPANDABLE
from gpuward.tap.map_layout import Request, pack_request, unpack_map
from gpuward.tap.memory_walk import Walk
from gpuward.tap.publisher import Publisher
from gpuward.tap.walks import Walks

MIB = 1 << 20
S = 10**9
GPU = bytes(range(16))
SEGMENT = {
    "device": 0,
    "address": 0,
    "total_size": 20 * MIB,
    "stream": 0,
    "segment_type": "large",
    "blocks": [{"address": 0, "size": 20 * MIB, "state": "inactive"}],
}


class FakeSource:
    flags = 0
    recording = False
    segments = (SEGMENT,)
    walked = 0

    def walk(self):
        self.walked += 1
        if self.segments is None:
            raise RuntimeError("no snapshot")
        return Walk(self.segments, walks_module.time.monotonic_ns(), 6, 7)

    def is_recording(self):
        return self.recording


class FakeTime:
    now_ns = 10**15

    def monotonic_ns(self):
        return self.now_ns

    def time_ns(self):
        return time.time_ns()


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(walks_module, "time", FakeTime())
    return walks_module.time


@pytest.fixture
def source():
    return FakeSource()


@pytest.fixture
def publisher(tmp_path):
    publisher = Publisher(tmp_path, [(GPU, 0)], header_flags=1)
    yield publisher
    publisher.close()


@pytest.fixture
def walks(clock, source, publisher):
    return Walks(source, publisher)


def stats(retries=0, blocks=3):
    return {"num_alloc_retries": retries, "active": {"all": {"current": blocks}}}


def ask(publisher, kind=1, within_s=25):
    nonce = os.urandom(16)
    deadline_ns = time.time_ns() + within_s * S
    path = publisher.path.with_suffix(".req")
    path.write_bytes(pack_request(Request(nonce, deadline_ns, kind)))
    return nonce


def answer(walks, publisher, nonce, *, may_ask=True, blocks=3):
    """Two ticks: the question is seen, the walk taken, the answer written."""
    walks.look(may_ask=may_ask)
    if may_ask:
        walks.consider([stats(blocks=blocks)])
    walks.look(may_ask=may_ask)
    found = unpack_map(publisher.path.with_suffix(".map").read_bytes())
    assert found.nonce == nonce
    return found


def test_no_reason_no_walk(walks, source):
    for _ in range(3):
        walks.look(may_ask=True)
        walks.consider([stats(retries=5)])

    assert 0 == source.walked


def test_a_retry_is_a_reason(walks, source, publisher):
    walks.consider([stats(retries=5)])
    walks.consider([stats(retries=6)])
    walks.look(may_ask=True)

    summary = publisher.devices[0].snapshot.summary
    assert (1, 1, 20 * MIB) == (source.walked, summary.segments, summary.releasable_bytes)


@pytest.mark.parametrize(
    ("after_s", "walked"),
    [pytest.param(29.9, 1, id="within half a minute"), pytest.param(30, 2, id="after it")],
)
def test_expandable_segments_are_a_reason_as_often_as_the_budget_allows(
    walks, source, clock, after_s, walked
):
    source.flags = EXPANDABLE
    for _ in range(2):
        walks.consider([stats()])
        walks.look(may_ask=True)
        clock.now_ns += int(after_s * S)

    assert walked == source.walked


def test_a_walk_that_met_too_many_blocks_is_the_last(walks, source, clock):
    """Torch does not count free blocks of expandable segments, so that only a walk tells."""
    source.flags = EXPANDABLE
    block = {"address": 0, "size": MIB, "state": "inactive"}
    source.segments = ({**SEGMENT, "blocks": 10_001 * [block], "is_expandable": True},)
    for _ in range(2):
        walks.consider([stats(blocks=5_001)])
        walks.look(may_ask=True)
        clock.now_ns += 30 * S

    assert 1 == source.walked


def test_expandable_segments_are_noticed(walks, source):
    """A program may switch them on while it runs."""
    source.segments = ({**SEGMENT, "is_expandable": True},)
    walks.consider([stats(retries=0)])
    walks.consider([stats(retries=1)])
    walks.look(may_ask=True)

    assert EXPANDABLE == walks.flags


def test_a_request_is_answered_with_a_map(walks, publisher):
    found = answer(walks, publisher, ask(publisher))

    assert (0, 1, [(GPU, 0)]) == (found.outcome, found.total_blocks, found.gpus)


@pytest.mark.parametrize(
    ("outcome", "trouble"),
    [
        pytest.param(1, {"may_ask": False}, id="asking could deadlock"),
        pytest.param(3, {"blocks": 10_001}, id="too many blocks"),
    ],
)
def test_refused(walks, source, publisher, outcome, trouble):
    assert outcome == answer(walks, publisher, ask(publisher), **trouble).outcome
    assert 0 == source.walked


def test_a_second_request_is_told_when_to_come_back(walks, source, publisher):
    answer(walks, publisher, ask(publisher))
    found = answer(walks, publisher, ask(publisher))

    assert (2, 30_000, 1) == (found.outcome, found.retry_after_ms, source.walked)


def test_a_request_that_has_time_waits_for_the_budget(walks, source, publisher, clock):
    """And comes before the tap's own reasons, once there is one."""
    answer(walks, publisher, ask(publisher))
    nonce = ask(publisher, within_s=60)
    path = publisher.path.with_suffix(".map")
    before = path.read_bytes()
    source.flags = EXPANDABLE
    for _ in range(3):
        walks.look(may_ask=True)
        walks.consider([stats()])
    assert before == path.read_bytes()

    clock.now_ns += 30 * S
    assert 0 == answer(walks, publisher, nonce).outcome
    assert 2 == source.walked


def test_a_request_that_is_taken_back_is_not_answered(walks, source, publisher):
    ask(publisher)
    walks.look(may_ask=True)
    publisher.path.with_suffix(".req").unlink()
    walks.look(may_ask=True)
    walks.consider([stats()])

    assert 0 == source.walked


def test_a_program_that_records_its_allocations_is_not_walked(walks, source, publisher):
    source.recording = True

    assert 4 == answer(walks, publisher, ask(publisher)).outcome
    assert 0 == source.walked


def test_a_walk_that_fails_is_said_and_not_tried_again_at_once(walks, source, publisher):
    source.segments = None

    assert 5 == answer(walks, publisher, ask(publisher)).outcome
    assert 2 == answer(walks, publisher, ask(publisher)).outcome
    assert 1 == source.walked


def test_an_unknown_kind_is_refused(walks, source, publisher):
    assert 6 == answer(walks, publisher, ask(publisher, kind=2)).outcome
    assert 0 == source.walked


def test_a_summary_at_once(walks, source):
    """At an out-of-memory error; a second one within the budget's period gets none."""
    found = [walks.summary_now(0, stats()) for _ in range(2)]

    assert (1, None, 1) == (found[0].summary.segments, found[1], source.walked)


def test_a_summary_at_once_of_too_many_blocks(walks, source):
    walks.consider([stats(blocks=10_001)])

    assert (None, 0) == (walks.summary_now(0, stats(blocks=1)), source.walked)


def test_a_tap_that_cannot_walk_does_not(clock, source, tmp_path):
    source.flags = EXPANDABLE
    publisher = Publisher(tmp_path, [(GPU, 0)])
    walks = Walks(source, publisher)
    ask(publisher)
    walks.look(may_ask=True)
    walks.consider([stats()])

    assert (None, 0) == (walks.summary_now(0, stats()), source.walked)
    assert not publisher.path.with_suffix(".map").exists()
    publisher.close()
