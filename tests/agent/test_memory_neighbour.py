"""The room that a process needs is taken by another on its GPU."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.memory_neighbour import detect
from gpuward.agent.model import Process, Sample, SeriesKey
from gpuward.agent.window import Window

MIB = 2**20
GIB = 2**30
NOW = 1_000.0
GPU = "GPU-1"
KEY = "victim"


def held(process, first_gib, last_gib, *, since_s_ago=300, gpu=GPU, late_s=0.0):
    """Memory by NVML, every five seconds, in a straight line over the last four minutes."""
    key = SeriesKey("process_gpu_memory_bytes", gpu=gpu, process=process)
    for ago in range(0, since_s_ago + 1, 5):
        share = max(0.0, 1 - ago / 240)
        yield Sample(key, NOW - late_s - ago, (first_gib + share * (last_gib - first_gib)) * GIB)


def window(*neighbours, mine=(40, 40), ratio=10.0, mean=256 * MIB, late_s=0.0, since_s_ago=300):
    own = {
        "process_memory_reserved_bytes": 39 * GIB,
        "process_memory_stranded_bytes": 0,
        "process_memory_mean_large_request_bytes": mean,
        "process_memory_headroom_bytes": ratio * mean,
        "process_memory_headroom_ratio": ratio,
    }
    samples = [
        Sample(SeriesKey(name, gpu=GPU, process=KEY), NOW - late_s, value)
        for name, value in own.items()
    ]
    samples += held(KEY, *mine, since_s_ago=since_s_ago)
    for neighbour in neighbours:
        samples += neighbour
    process = Process(KEY, 77, 5, gpus=(GPU,), tapped=True)
    return Window.of(samples, now_s=NOW, processes=[process])


def said(*neighbours, **facts):
    return [finding.outcome.value for finding in detect(window(*neighbours, **facts))]


@pytest.mark.parametrize(
    ("last_gib", "facts", "expected"),
    [
        pytest.param(14, {}, ["bad"], id="grew by 4 GiB"),
        pytest.param(10, {}, [], id="did not grow"),
        # Room for 24 requests is 6 GiB; 2.5 are there.
        pytest.param(13.5, {}, ["bad"], id="all that is missing"),
        pytest.param(13.4, {}, ["doubtful"], id="almost all"),
        pytest.param(12.2, {}, [], id="far from all: something else is to blame"),
        pytest.param(14, {"ratio": 23.9}, ["bad"], id="just too little room"),
        pytest.param(14, {"ratio": 24}, ["doubtful"], id="just enough"),
        pytest.param(14, {"ratio": 29.9}, ["doubtful"], id="hardly more"),
        pytest.param(14, {"ratio": 30}, [], id="enough"),
        pytest.param(11, {"mean": 64 * MIB}, ["bad"], id="a GiB"),
        pytest.param(10.99, {"mean": 64 * MIB}, ["doubtful"], id="less"),
        pytest.param(10.79, {"mean": 64 * MIB}, [], id="less than four fifths"),
        pytest.param(14, {"mine": (36, 40)}, ["bad"], id="grew as much as the victim"),
        pytest.param(14, {"mine": (35.9, 40)}, [], id="the victim grew more"),
    ],
)
def test_who_took_the_room(last_gib, facts, expected):
    assert expected == said(held("greedy", 10, last_gib), **facts)


def test_a_new_process_took_all_that_it_holds():
    assert ["bad"] == said(held("new", 4, 4, since_s_ago=60))


def test_of_another_gpu_it_is_nothing_to_us():
    assert [] == said(held("greedy", 10, 14, gpu="GPU-2"))


def test_a_victim_that_is_new_itself_has_lost_nothing():
    assert [] == said(held("greedy", 10, 14), since_s_ago=60)


def test_two_neighbours_count_together_and_the_greedier_is_named():
    (finding,) = detect(window(held("one", 10, 11.5), held("two", 10, 12.5)))

    assert finding.outcome.value == "bad"
    assert finding.summary == (
        "Process two took 2.50 GiB on the GPU of victim, which has 2.50 GiB of headroom left; "
        "restarting it would not help."
    )
    assert finding.action is None


@pytest.mark.parametrize(
    ("late_s", "expected"),
    [pytest.param(10, ["bad"], id="fresh"), pytest.param(10.1, ["unknown"], id="stale")],
)
def test_silence_is_unknown(late_s, expected):
    assert expected == said(held("greedy", 10, 14), late_s=late_s)


def test_what_the_neighbour_could_give_back_is_told():
    key = SeriesKey("process_memory_releasable_bytes", gpu=GPU, process="greedy")
    (finding,) = detect(window(held("greedy", 10, 14), [Sample(key, NOW, 3 * GIB)]))

    assert ("remedy_neighbour_empty_cache_bytes", 3 * GIB) == (
        finding.evidence[-1].name,
        finding.evidence[-1].value,
    )
