"""A process whose floor rises: certainly, for long, and not because it starts."""

from __future__ import annotations

import random

import pytest

from gpuward.agent.detectors.memory_leak import detect
from gpuward.agent.model import Process, Sample, SeriesKey
from gpuward.agent.window import Window

MIB = 2**20
GIB = 2**30
NOW = 100_000.0
GPU = "GPU-1"
KEY = "server"
REQUESTED = "process_memory_requested_floor_bytes"
OVERHEAD = "process_memory_overhead_floor_bytes"


def window(floors, *, signal=REQUESTED, started_s_ago=50_000, late_s=0.0, headroom=None):
    """One floor a minute, the last ``late_s`` ago, of a process that began ``started_s_ago``."""
    ticks = int((NOW - started_s_ago) * 100) if started_s_ago is not None else 0
    samples = [
        Sample(SeriesKey(signal, gpu=GPU, process=KEY), NOW - late_s - 60 * back, floor)
        for back, floor in enumerate(reversed(floors))
    ]
    if headroom is not None:
        key = SeriesKey("process_memory_headroom_bytes", gpu=GPU, process=KEY)
        samples.append(Sample(key, NOW, headroom))
    process = Process(KEY, 77, ticks, gpus=(GPU,), tapped=True)
    return Window.of(samples, now_s=NOW, processes=[process])


def said(*arguments, **facts):
    return [finding.outcome.value for finding in detect(window(*arguments, **facts))]


def ramp(minutes, mib_a_minute, noise_mib=0.0, seed=1):
    chance = random.Random(seed)
    return [
        30 * GIB + (minute * mib_a_minute + chance.gauss(0, noise_mib)) * MIB
        for minute in range(minutes)
    ]


@pytest.mark.parametrize(
    ("floors", "expected"),
    [
        pytest.param([], [], id="no history"),
        pytest.param(ramp(60, 0), [], id="level"),
        pytest.param(ramp(60, -20), [], id="falls"),
        pytest.param(ramp(60, 20), ["bad"], id="rises"),
        pytest.param(ramp(19, 20), [], id="too short to be sure"),
        pytest.param(ramp(20, 20), ["bad"], id="just long enough"),
        # 59 minutes lie between sixty floors.
        pytest.param(ramp(60, 256 / 59 + 0.01), ["bad"], id="a quarter of a GiB"),
        pytest.param(ramp(60, 256 / 59 - 0.01), ["doubtful"], id="a little less"),
        pytest.param(ramp(60, 204.8 / 59 + 0.01), ["doubtful"], id="four fifths of it"),
        pytest.param(ramp(60, 204.8 / 59 - 0.01), [], id="less than that"),
        pytest.param(ramp(60, 20, noise_mib=100), ["bad"], id="rises in noise"),
        pytest.param(ramp(60, 5, noise_mib=400), [], id="lost in noise"),
        pytest.param(ramp(30, 40) + [30 * GIB + 1200 * MIB] * 30, [], id="a plateau"),
        pytest.param([30 * GIB] * 30 + [33 * GIB] * 30, [], id="one step is not a leak"),
        pytest.param([30 * GIB, 34 * GIB] * 30, [], id="a saw is not a leak"),
    ],
)
def test_a_floor_that_rises(floors, expected):
    assert expected == said(floors)


@pytest.mark.parametrize(
    ("started_s_ago", "expected"),
    [
        # Floors of the first fifteen minutes do not count; twenty must be left.
        pytest.param(60 * 33, [], id="still at its start-up"),
        pytest.param(60 * 34, ["bad"], id="twenty floors after it"),
        pytest.param(None, ["bad"], id="start unknown, history long enough"),
    ],
)
def test_a_start_is_not_a_leak(started_s_ago, expected):
    assert expected == said(ramp(60, 20), started_s_ago=started_s_ago)


def test_an_unknown_start_counts_from_the_first_floor():
    assert [] == said(ramp(34, 20), started_s_ago=None)
    assert ["bad"] == said(ramp(35, 20), started_s_ago=None)


@pytest.mark.parametrize(
    ("late_s", "expected"),
    [pytest.param(150.0, ["bad"], id="fresh"), pytest.param(150.1, ["unknown"], id="stale")],
)
def test_silence_is_unknown(late_s, expected):
    assert expected == said(ramp(60, 20), late_s=late_s)


def test_memory_beside_torch_leaks_too():
    (finding,) = detect(window(ramp(60, 20), signal=OVERHEAD))

    assert "memory beside the allocator" in finding.summary


def test_the_finding_tells_the_pace_with_its_interval_and_what_a_restart_wins():
    (finding,) = detect(window(ramp(60, 20, noise_mib=20)))
    facts = {fact.name: fact for fact in finding.evidence}

    assert 59 * 20 * MIB == pytest.approx(facts["process_memory_floor_rise_bytes"].value, rel=0.05)
    assert 256 * MIB == facts["process_memory_floor_rise_bytes"].threshold
    assert "1.1" in facts["process_memory_floor_rise_bytes"].text
    assert facts["remedy_restart_bytes"].value == facts["process_memory_floor_rise_bytes"].value


@pytest.mark.parametrize(
    ("headroom_mib", "expected", "left_s"),
    [
        # 20 MiB a minute are 4,800 in four hours.
        pytest.param(4_799, "warn", 4_799 * 3, id="gone in less than four hours"),
        pytest.param(4_801, "ok", None, id="in more: stored, no ticket"),
        pytest.param(0, "warn", 0, id="gone"),
        pytest.param(None, "warn", None, id="nobody knows the room"),
    ],
)
def test_a_ticket_is_of_what_runs_out_soon(headroom_mib, expected, left_s):
    headroom = None if headroom_mib is None else headroom_mib * MIB
    (finding,) = detect(window(ramp(60, 20), headroom=headroom))
    facts = {fact.name: fact.value for fact in finding.evidence}

    assert ("bad", expected) == (finding.outcome.value, finding.result.value)
    assert left_s == (
        pytest.approx(facts["process_memory_exhausted_in_seconds"])
        if "process_memory_exhausted_in_seconds" in facts
        else None
    )


def test_hardly_any_level_window_is_taken_for_a_leak():
    """Of 300 without a trend, half of them wandering (AR 0.8), at most three in a hundred."""
    wrong = 0
    for seed in range(300):
        chance = random.Random(seed)
        level, floors = 0.0, []
        for _ in range(60):
            level = (0.8 if seed % 2 else 0.0) * level + chance.gauss(0, 200 * MIB)
            floors.append(30 * GIB + level)
        wrong += said(floors) != []
    assert wrong <= 9
