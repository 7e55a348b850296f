"""Between two walks of an expandable cache the last one's shares of what is free hold."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors import memory_fragmentation
from gpuward.agent.hysteresis import State, Verdict, fold
from gpuward.agent.model import Process
from gpuward.agent.samplers.tap_samples import (
    DeviceMemory,
    Reading,
    allocator_state,
    gpu_name,
    samples,
)
from gpuward.agent.window import Window
from gpuward.tap.layout import Counters, Record, Summary, Totals

MIB = 2**20
GIB = 2**30
SECOND = 10**9
EXPANDABLE, SUMMARY_VALID = 1, 2
UUID = bytes(range(16))
GPU = gpu_name(UUID)
PROCESS = Process("vllm:llama", 77, 5, gpus=(GPU,), tapped=True)
RESERVED = 40 * GIB


def record(*, free, second=1_000, walked_second=1_000, pool=0, flags=EXPANDABLE | SUMMARY_VALID):
    """Of 6 GiB that were free when the blocks were walked, 4.4 were stranded and 0.5 a graph's."""
    facts = {"free_bytes": int(5.5 * GIB), "largest_free_bytes": 2 * GIB}
    facts |= {"releasable_bytes": int(1.1 * GIB), "stranded_bytes": int(4.4 * GIB)}
    return Record(
        2,
        second * SECOND,
        second * SECOND,
        UUID,
        0,
        flags,
        all_pools=Counters(
            reserved_bytes=RESERVED,
            active_bytes=RESERVED - int(free * GIB),
            inactive_split_bytes=0 if flags & EXPANDABLE else 3 * GIB,
        ),
        totals=Totals(private_pool_reserved_bytes=pool * GIB),
        summary=Summary(walked_second * SECOND, private_free_bytes=GIB // 2, **facts),
    )


def in_gib(state):
    return tuple(round(size / GIB, 2) for size in (state.releasable, state.stranded))


WALKED = (1.1, 4.4)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param({"free": 6}, WALKED, id="of now"),
        pytest.param({"free": 6, "second": 1_002}, WALKED, id="a tick later"),
        pytest.param({"free": 5.5, "second": 1_002}, (1.01, 4.03), id="something has changed"),
        pytest.param({"free": 9, "second": 1_002}, (7.0, 2.0), id="much has changed since"),
        pytest.param(
            {"free": 9, "second": 1_002, "flags": SUMMARY_VALID},
            (6.0, 3.0),
            id="much, but counters are exact",
        ),
        pytest.param({"free": 5.5, "second": 1_003}, (1.01, 4.03), id="later: its shares"),
        pytest.param({"free": 6, "second": 1_150}, WALKED, id="nothing has changed"),
        pytest.param({"free": 5.5, "second": 1_151}, (3.5, 2.0), id="too long ago: a guess"),
        pytest.param({"free": 7.5, "second": 1_003}, (1.37, 5.5), id="a quarter more"),
        pytest.param({"free": 7.6, "second": 1_003}, (5.6, 2.0), id="too much more: a guess"),
        pytest.param({"free": 4.5, "second": 1_003}, (0.82, 3.3), id="a quarter less"),
        pytest.param({"free": 4.4, "second": 1_003}, (2.4, 2.0), id="too much less: a guess"),
        pytest.param({"free": 0, "second": 1_003}, (0, 0), id="nothing is free"),
        pytest.param({"free": 5.5, "flags": EXPANDABLE}, (3.5, 2.0), id="never walked"),
        pytest.param({"free": 5.5, "walked_second": 1_001}, (3.5, 2.0), id="walked in the future"),
        pytest.param(
            {"free": 5.5, "second": 1_003, "flags": SUMMARY_VALID},
            (2.5, 3.0),
            id="counters are exact without expandable segments",
        ),
        pytest.param(
            {"free": 5.5, "second": 1_003, "flags": SUMMARY_VALID, "pool": 1},
            (1.01, 4.03),
            id="but not with private pools",
        ),
    ],
)
def test_what_the_last_walk_says_of_now(facts, expected):
    assert expected == in_gib(allocator_state(record(**facts)))


def told(records):
    """Return per record what is open, and the first evidence, as a second of the agent each."""
    state, found = State("test"), []
    for one in records:
        now_s = one.mono_ns / SECOND
        taken = samples([Reading(one, now_s)], PROCESS.key, GPU, None)
        window = Window.of(list(taken), now_s=now_s, processes=[PROCESS])
        verdict = Verdict(
            memory_fragmentation.KIND.name, tuple(memory_fragmentation.detect(window))
        )
        state, _ = fold(state, [verdict], now_s)
        found.append([opened.finding for opened in state.open_findings])
    return found


def test_a_finding_stays_between_walks():
    """A walk twice a minute, a cache that breathes: raised once, then open in every second."""
    found = told(
        record(free=6 + 0.4 * (second % 7 - 3), second=second, walked_second=second // 30 * 30)
        for second in range(990, 1_200)
    )

    first = [bool(one) for one in found].index(True)
    assert first <= 5
    assert all(len(one) == 1 for one in found[first:])
    assert {""} == {one.evidence[0].text for (one,) in found[first:]}


@pytest.mark.parametrize(
    ("second", "words"),
    [
        pytest.param(1_003, "", id="by the shares of the last walk"),
        pytest.param(1_151, "A guess, 5 % of what is reserved", id="that is too long ago"),
    ],
)
def test_a_guess_is_called_one(second, words):
    """Hardly a request fits, and what is stranded is why, however it is known."""
    reading = Reading(record(free=6, second=second), float(second), mean_large_request=GIB)
    taken = samples([reading], PROCESS.key, GPU, DeviceMemory(80 * GIB, 3 * GIB))
    window = Window.of(list(taken), now_s=float(second), processes=[PROCESS])
    (finding,) = memory_fragmentation.detect(window)

    assert "process_memory_stranded_bytes" == finding.evidence[0].name
    assert finding.evidence[0].text.startswith(words)
    assert bool(words) == bool(finding.evidence[0].text)
