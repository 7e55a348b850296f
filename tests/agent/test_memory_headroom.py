"""When headroom is low, who is to blame for it, and what it says of the time that is left."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.memory_headroom import detect
from gpuward.agent.model import Action, Gpu, Process, Sample, SeriesKey
from gpuward.agent.window import Window

MIB = 2**20
GIB = 2**30
NOW = 20_000.0
GPU = "GPU-1"
KEY = "vllm:llama"
VLLM = Process(KEY, 77, 5, gpus=(GPU,), engine="vllm", tapped=True)
OTHER = Process(KEY, 77, 5, gpus=(GPU,), tapped=True)
UNTAPPED = Process(KEY, 77, 5, gpus=(GPU,))


def window(
    ratios=(100.0,),
    *,
    reserved=40 * GIB,
    stranded=0.0,
    releasable=0.0,
    mean=128 * MIB,
    floors=(),
    driver_used=None,
    silent=False,
    late_s=0.0,
    process=VLLM,
):
    """One headroom ratio a second, one floor a minute; the last of each ``late_s`` ago."""
    last = {
        "process_memory_reserved_bytes": reserved,
        "process_memory_stranded_bytes": stranded,
        "process_memory_releasable_bytes": releasable,
        "process_allocation_retries_total": 0,
    }
    if ratios and mean:
        last["process_memory_mean_large_request_bytes"] = mean
    if driver_used is not None:
        last["process_gpu_memory_bytes"] = driver_used
    samples = [sample(name, NOW - late_s, value) for name, value in last.items()]
    for back, ratio in enumerate(reversed(ratios)):
        at_s = NOW - late_s - back
        samples.append(sample("process_memory_headroom_ratio", at_s, ratio))
        if not silent:
            samples.append(sample("process_memory_headroom_bytes", at_s, ratio * mean))
    for back, floor in enumerate(reversed(floors)):
        samples.append(sample("process_memory_headroom_floor_bytes", NOW - 60 * back, floor))
    samples.append(Sample(SeriesKey("gpu_memory_total_bytes", gpu=GPU), NOW, 80 * GIB))
    return Window.of(samples, now_s=NOW, gpus=[Gpu(GPU, 0, "H100", "0")], processes=[process])


def sample(signal, at_s, value):
    return Sample(SeriesKey(signal, gpu=GPU, process=KEY), at_s, value)


def said(found):
    return [(finding.outcome.value, finding.result.value) for finding in detect(found)]


def fact(finding, name):
    return next((fact for fact in finding.evidence if fact.name == name), None)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        pytest.param([100] * 3, [], id="plenty"),
        pytest.param([30] * 3, [], id="room for thirty"),
        pytest.param([29.9] * 3, [("doubtful", "warn")], id="for less than thirty"),
        pytest.param([24] * 3, [("doubtful", "warn")], id="for twenty-four"),
        pytest.param([23.9] * 3, [("bad", "warn")], id="for less"),
        pytest.param([23.9] * 2, [("doubtful", "warn")], id="two samples do not last"),
        pytest.param([24, 23, 23], [("doubtful", "warn")], id="one of the three was good"),
        pytest.param([8] * 3, [("bad", "warn")], id="for eight"),
        pytest.param([7.9] * 3, [("bad", "fail")], id="for less than eight"),
        pytest.param([100, 100, 7.9], [("bad", "fail")], id="critical at once"),
    ],
)
def test_bands(ratios, expected):
    """Below 24 mean large requests warns when three samples agree, below 8 fails at once."""
    assert expected == said(window(ratios))


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param({"late_s": 10}, [("bad", "fail")], id="ten seconds old"),
        pytest.param({"late_s": 10.1}, [("unknown", "fail")], id="stale"),
        pytest.param({"silent": True}, [("unknown", "fail")], id="the driver is silent"),
        pytest.param({"driver_used": 39 * GIB}, [("unknown", "fail")], id="asleep"),
        pytest.param({"driver_used": 41 * GIB}, [("bad", "fail")], id="awake"),
        pytest.param({"process": UNTAPPED}, [], id="no tap"),
    ],
)
def test_what_can_be_judged(facts, expected):
    assert expected == said(window([1] * 3, **facts))


def test_fragmentation_is_named_as_the_cause():
    """The same process on the same GPU: one story, told by the finding that explains it."""
    (finding,) = detect(window([2] * 3, stranded=20 * GIB))

    assert ("process.memory.fragmentation||GPU-1|vllm:llama|",) == finding.causes
    assert Action.RESTART_APPLICATION is finding.action
    assert 20 * GIB == fact(finding, "remedy_restart_bytes").value


def test_a_restart_is_not_advised_where_all_is_in_use():
    (finding,) = detect(window([2] * 3))

    assert () == finding.causes
    assert Action.CHECK_APPLICATION is finding.action
    assert fact(finding, "remedy_restart_bytes") is None


@pytest.mark.parametrize(
    ("releasable", "expected"),
    [pytest.param(256 * MIB - 1, False, id="little"), pytest.param(256 * MIB, True, id="much")],
)
def test_emptying_the_cache_is_advised_where_it_wins_something(releasable, expected):
    (finding,) = detect(window([2] * 3, releasable=releasable))

    assert expected == (fact(finding, "remedy_empty_cache_bytes") is not None)


@pytest.mark.parametrize(
    ("process", "expected"),
    [
        # Room for 24 requests of 128 MiB is 3 GiB, there is a quarter: 2.75 of 80 GiB are 3.4 %.
        pytest.param(VLLM, -0.04, id="vLLM takes a share of the GPU"),
        pytest.param(OTHER, None, id="no other engine has the option"),
    ],
)
def test_utilization_that_leaves_enough_room(process, expected):
    (finding,) = detect(window([2] * 3, process=process))
    change = fact(finding, "gpu_memory_utilization_change")

    assert expected == (change and change.value)


def test_when_the_room_is_gone():
    """A quarter of a GiB is lost a minute, and the last three floors are around 2 GiB."""
    floors = [10 * GIB - minute * GIB / 4 for minute in range(34)]
    (finding,) = detect(window([14] * 3, floors=floors))
    ahead = fact(finding, "process_memory_exhausted_in_seconds")

    assert 8 * 60 == pytest.approx(ahead.value)
    assert "8 to 8 minutes (80 %)" in ahead.text


@pytest.mark.parametrize(
    "floors",
    [
        pytest.param([], id="no history"),
        pytest.param([5 * GIB] * 60, id="never fell"),
        pytest.param([10 * GIB - m * GIB / 4 for m in range(19)], id="too short"),
        pytest.param([m * GIB / 4 for m in range(40)], id="rises"),
        pytest.param(
            [10 * GIB - m * GIB / 9 for m in range(40)], id="falls, to last longer than it was seen"
        ),
        pytest.param(
            [10 * GIB - min(m, 20) * GIB / 4 for m in range(40)], id="fell, and stays there"
        ),
    ],
)
def test_no_time_is_told_without_a_certain_fall(floors):
    (finding,) = detect(window([14] * 3, floors=floors))

    assert fact(finding, "process_memory_exhausted_in_seconds") is None


def test_nothing_is_said_of_a_process_that_asks_for_nothing_large():
    samples = [
        sample("process_memory_reserved_bytes", NOW, 40 * GIB),
        sample("process_memory_stranded_bytes", NOW, 0),
        sample("process_memory_headroom_bytes", NOW, 1),
    ]
    idle = Window.of(samples, now_s=NOW, gpus=[Gpu(GPU, 0, "H100", "0")], processes=[VLLM])

    assert [] == said(idle)
