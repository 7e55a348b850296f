"""A process that lives on flushing its cache."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.memory_retries import detect
from gpuward.agent.model import Process, Sample, SeriesKey
from gpuward.agent.window import Window

GIB = 2**30
NOW = 1_000.0
GPU = "GPU-1"
KEY = "server"
PROCESS = Process(KEY, 77, 5, gpus=(GPU,), tapped=True)


def sample(signal, at_s, value):
    return Sample(SeriesKey(signal, gpu=GPU, process=KEY), at_s, value)


def window(retried_s_ago, *, stranded=0.0, late_s=0.0):
    """Two minutes of a counter that rose by one at each of ``retried_s_ago``."""
    samples = [
        sample(
            "process_allocation_retries_total",
            NOW - late_s - ago,
            7 + sum(when >= ago for when in retried_s_ago),
        )
        for ago in range(120)
    ]
    samples += [
        sample("process_memory_reserved_bytes", NOW - late_s, 40 * GIB),
        sample("process_memory_stranded_bytes", NOW - late_s, stranded),
    ]
    return Window.of(samples, now_s=NOW, processes=[PROCESS])


@pytest.mark.parametrize(
    ("retried_s_ago", "expected"),
    [
        pytest.param([], [], id="never"),
        pytest.param([70], [], id="over a minute ago"),
        pytest.param([5], ["doubtful"], id="once: a peak"),
        pytest.param([1, 2, 3, 4, 5], ["doubtful"], id="often, all at once"),
        pytest.param([5, 25], ["doubtful"], id="in two thirds of the minute"),
        pytest.param([5, 25, 45], ["bad"], id="in each third"),
        pytest.param([0, 20, 40], ["bad"], id="at the start of each third"),
        pytest.param([19, 39, 59], ["bad"], id="at the end of each third"),
        pytest.param([20, 25, 45], ["doubtful"], id="not in the last third"),
    ],
)
def test_retries_that_go_on(retried_s_ago, expected):
    assert expected == [finding.outcome.value for finding in detect(window(retried_s_ago))]


@pytest.mark.parametrize(
    ("late_s", "expected"),
    [
        pytest.param(10.0, "doubtful", id="ten seconds old"),
        pytest.param(10.1, "unknown", id="stale"),
    ],
)
def test_silence_is_unknown(late_s, expected):
    (finding,) = detect(window([5, 25], late_s=late_s))

    assert expected == finding.outcome.value


def test_a_counter_that_fell_is_a_reset():
    samples = [
        sample("process_allocation_retries_total", NOW - ago, 100 * (ago > 30)) for ago in range(60)
    ]
    samples += [
        sample("process_memory_reserved_bytes", NOW, GIB),
        sample("process_memory_stranded_bytes", NOW, 0),
    ]

    assert [] == list(detect(Window.of(samples, now_s=NOW, processes=[PROCESS])))


def test_fragmentation_is_named_as_the_cause():
    (finding,) = detect(window([5, 25, 45], stranded=10 * GIB))

    assert ("process.memory.fragmentation||GPU-1|server|",) == finding.causes
    assert "restart_application" == finding.action
    assert "Process server had to flush its cache 3 times in the last 60 s to find memory." == (
        finding.summary
    )


def test_without_fragmentation_there_is_no_cause_and_no_restart():
    (finding,) = detect(window([5, 25, 45]))

    assert () == finding.causes
    assert "check_application" == finding.action


def test_what_the_retries_cost_is_told_beside_them():
    """Of the last minute: waits for the device, calls of the driver, and requests given up."""
    counters = [
        sample(f"process_{name}_total", NOW - ago, float(before if ago else after))
        for name, before, after in (
            ("allocation_stream_syncs", 100, 103),
            ("allocation_driver_calls", 1_000, 1_040),
        )
        for ago in (59, 0)
    ]
    old = window([5, 25, 45])
    samples = [
        one
        for signal in ("process_allocation_retries_total", "process_memory_reserved_bytes")
        for one in old.values(SeriesKey(signal, gpu=GPU, process=KEY), 0.0)
    ]
    samples.append(sample("process_memory_stranded_bytes", NOW, 0.0))
    (finding,) = detect(Window.of([*samples, *counters], now_s=NOW, processes=[PROCESS]))

    assert [(one.name, one.value) for one in finding.evidence] == [
        ("process_allocation_retries", 3),
        ("process_allocation_stream_syncs", 3),
        ("process_allocation_driver_calls", 40),
        ("process_memory_stranded_bytes", 0),
    ]
