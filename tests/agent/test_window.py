"""Ring buffers and the view that detectors see: stale is absent, bounds hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.model import (
    Batch,
    Driver,
    Event,
    Gpu,
    Process,
    Sample,
    SeriesKey,
)
from gpuward.agent.service_totals import ServiceTotals
from gpuward.agent.window import NOT_LOOKED, Readings, Window

USED = SeriesKey("gpu_memory_used_bytes", gpu="GPU-1")
LIMIT = SeriesKey("gpu_power_limit_watts", gpu="GPU-1")


def batch(*samples, **others):
    return Batch(samples=samples, **others)


@pytest.mark.parametrize(
    ("key", "age_s", "is_known"),
    [
        pytest.param(USED, 0.0, True, id="just now"),
        pytest.param(USED, 10.0, True, id="as old as the signal allows"),
        pytest.param(USED, 10.1, False, id="older than it allows"),
        pytest.param(LIMIT, 90.0, True, id="a slow signal lives longer"),
        pytest.param(LIMIT, 90.1, False, id="and goes too"),
    ],
)
def test_a_stale_value_is_absent(key, age_s, is_known):
    """Values vanish when their signal's time is over; they never freeze."""
    window = Window.of([Sample(key, 1_000.0 - age_s, 5.0)], now_s=1_000.0)

    assert (window.latest(key) is not None) == is_known
    assert (window.keys(key.signal) == (key,)) == is_known
    assert (key in window.fresh()) == is_known


SERIES = (USED, USED._replace(gpu="GPU-2"), USED._replace(gpu="GPU-3"), LIMIT)
# Of a signal that is stale after ten seconds, and one after ninety.
STALE_AFTER_S = {USED.signal: 10.0, LIMIT.signal: 90.0}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(SERIES),
            st.sampled_from([0.0, 1.0, 9.0, 10.0, 11.0, 60.0, 280.0]),
            st.integers(0, 12),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_what_is_fresh_is_what_a_look_at_each_sample_finds(steps):
    """Whatever comes when, late or not at all, and whenever it is looked at or forgotten."""
    readings, newest, now_s = Readings(), {}, 1_000.0
    for key, passes_s, late_s, forgets in steps:
        now_s += passes_s
        sample = Sample(key, now_s - late_s, now_s)
        readings.apply("x", batch(sample), now_s)
        if key not in newest or newest[key].at_s < sample.at_s:
            newest[key] = sample
        if forgets:
            readings.forget_old(now_s)
            newest = {k: s for k, s in newest.items() if s.at_s >= now_s - 300.0}
        fresh = {k: s for k, s in newest.items() if s.at_s >= now_s - STALE_AFTER_S[k.signal]}
        window = readings.window(now_s)

        assert fresh == window.fresh()
        assert {key: fresh.get(key) for key in SERIES} == {k: window.latest(k) for k in SERIES}
        for signal in STALE_AFTER_S:
            assert [k for k in newest if k.signal == signal] == [*window.known(signal)]
            assert [k for k in newest if k in fresh and k.signal == signal] == [
                *window.keys(signal)
            ]


def test_what_is_fresh_now_stays_as_it_was():
    """Whoever holds a picture of the node does not see it change."""
    readings = Readings()
    readings.apply("x", batch(Sample(USED, 1_000.0, 1.0)), 1_000.0)
    picture = readings.window(1_000.0).fresh()

    readings.apply("x", batch(Sample(USED, 1_001.0, 2.0)), 1_001.0)

    assert {USED: Sample(USED, 1_000.0, 1.0)} == picture


def test_the_newest_sample_counts():
    window = Window.of([Sample(USED, at, at) for at in (997.0, 999.0, 998.0)], now_s=1_000.0)

    assert window.latest(USED) == Sample(USED, 999.0, 999.0)


def test_values_are_those_since_oldest_first():
    window = Window.of([Sample(USED, at, at) for at in (900.0, 950.0, 1_000.0)], now_s=1_000.0)

    assert window.values(USED, 950.0) == (
        Sample(USED, 950.0, 950.0),
        Sample(USED, 1_000.0, 1_000.0),
    )


def test_of_an_unknown_series_there_is_nothing():
    window = Window.of(now_s=1_000.0)

    assert window.latest(USED) is None
    assert window.values(USED, 0.0) == ()
    assert window.keys("gpu_memory_used_bytes") == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_was_not_measured(value):
    assert Window.of([Sample(USED, 1_000.0, value)], now_s=1_000.0).latest(USED) is None


def test_an_unknown_signal_fails_where_it_is_made():
    """A sampler's typing error is its own failure, not the next scrape's."""
    readings = Readings()

    with pytest.raises(KeyError):
        readings.apply("x", batch(Sample(SeriesKey("gpu_memroy"), 1.0, 1.0)), 1.0)


@given(st.lists(st.integers(0, 2_000), max_size=700))
def test_a_ring_keeps_the_last_310_seconds_in_order(steps):
    """Whatever arrives, in any order: kept are the newest of those that came in order."""
    readings, expected = Readings(), []
    for at in steps:
        readings.apply("x", batch(Sample(USED, float(at), float(at))), float(at))
        if not expected or at > expected[-1]:
            expected.append(at)

    since_s = max(expected, default=0) - 310
    kept = readings.window(2_000.0).values(USED, float(since_s))

    assert [int(sample.value) for sample in kept] == [it for it in expected if it >= since_s][-310:]


def test_a_full_ring_drops_its_oldest():
    readings = Readings()
    for at in range(1, 1_001):
        readings.apply("x", batch(Sample(USED, float(at), float(at))), float(at))

    kept = readings.window(1_000.0).values(USED, 0.0)

    assert [sample.at_s for sample in kept] == [float(at) for at in range(691, 1_001)]


def test_more_series_than_the_bound_are_counted():
    readings = Readings()
    keys = [SeriesKey("process_gpu_memory_bytes", process=f"p{i}") for i in range(10_001)]

    readings.apply("x", batch(*(Sample(key, 1.0, 1.0) for key in keys)), 1.0)

    assert (readings.series, readings.refused) == (10_000, 1)
    readings.forget_old(302.0)
    assert readings.series == 0


def test_what_vanished_is_forgotten_after_five_minutes():
    readings = Readings()
    readings.apply("x", batch(Sample(USED, 1_000.0, 1.0)), 1_000.0)

    readings.forget_old(1_300.0)
    kept = readings.series
    readings.forget_old(1_300.1)

    assert (kept, readings.series) == (1, 0)


def event(identity="a", at_s=1_000.0, **fields):
    return Event("gpu.xid", at_s, identity, code=31, gpu="GPU-1", **fields)


def test_an_event_read_twice_is_one_event():
    readings = Readings()

    first = readings.apply("kmsg", batch(events=(event("a"),)), 1_000.0)
    again = readings.apply("nvml", batch(events=(event("a"), event("b"))), 1_001.0)

    assert [e.identity for e in first + again] == ["a", "b"]
    assert [e.identity for e in readings.window(1_001.0).events("gpu.xid", 0.0)] == ["a", "b"]


def test_events_are_forgotten_after_an_hour():
    """And their identities with them, so that memory does not grow with a noisy log."""
    readings = Readings()
    readings.apply("kmsg", batch(events=(event("a"),)), 1_000.0)

    readings.forget_old(4_600.0)
    kept = len(readings.window(4_600.0).events("gpu.xid", 0.0))
    readings.forget_old(4_600.1)

    assert (kept, readings.window(4_600.1).events("gpu.xid", 0.0)) == (1, ())
    assert readings.apply("kmsg", batch(events=(event("a"),)), 4_601.0)


def test_a_flood_of_events_is_bounded():
    readings = Readings()
    flood = tuple(event(str(n)) for n in range(11_000))
    readings.apply("kmsg", batch(events=flood), 1_000.0)
    readings.forget_old(1_000.0)

    assert len(readings.window(1_000.0).events("gpu.xid", 0.0)) == 1_000
    assert len(readings._event_ids) == 10_000


@pytest.mark.parametrize(
    ("since_s", "count"),
    [pytest.param(1_000.0, 1, id="at the limit"), pytest.param(1_000.1, 0, id="before it")],
)
def test_events_are_those_since(since_s, count):
    window = Window.of(events=[event()], now_s=1_010.0)

    assert len(window.events("gpu.xid", since_s)) == count


def test_an_event_keeps_the_name_of_a_process_that_ends():
    """The process is named while it is there; in a minute nobody knows its pid any more."""
    readings = Readings()
    vllm = Process(key="vllm.service", pid=77, start_ticks=5)
    readings.apply("nvml", batch(processes=(vllm,)), 1_000.0)
    readings.apply("kmsg", batch(events=(event(pid=77),)), 1_001.0)
    readings.apply("nvml", batch(processes=()), 1_002.0)

    assert readings.window(1_002.0).events("gpu.xid", 0.0)[0].process == "vllm.service"


def test_an_old_event_is_not_blamed_on_who_has_the_pid_now():
    """The log of the whole boot is read at the start; pids have been used again since."""
    readings = Readings()
    readings.apply("nvml", batch(processes=(Process(key="new", pid=77, start_ticks=5),)), 1_000.0)

    readings.apply("kmsg", batch(events=(event(at_s=900.0, pid=77),)), 1_000.0)

    assert readings.window(1_000.0).events("gpu.xid", 0.0)[0].process == ""


def test_the_same_process_seen_twice_is_one():
    """NVML knows its GPUs, the tap knows that it is torch."""
    readings = Readings()
    readings.apply(
        "nvml",
        batch(
            processes=(Process(key="a", pid=1, start_ticks=9, gpus=("GPU-1",), unit="a.service"),)
        ),
        1.0,
    )
    readings.apply(
        "tap",
        batch(processes=(Process(key="a", pid=1, start_ticks=9, gpus=("GPU-2",), tapped=True),)),
        1.0,
    )

    assert readings.window(1.0).processes == (
        Process(
            key="a",
            pid=1,
            start_ticks=9,
            gpus=("GPU-1", "GPU-2"),
            unit="a.service",
            tapped=True,
        ),
    )


@pytest.mark.parametrize(
    ("age_s", "count"),
    [pytest.param(60.0, 1, id="a minute ago"), pytest.param(60.1, 0, id="longer ago")],
)
def test_a_dead_samplers_processes_and_services_vanish(age_s, count):
    readings = Readings()
    totals = ServiceTotals("chat", "x:1", 0.0, 0.0, 9, 0, 0, 0, 0, True, 0, 0)
    process = Process(key="a", pid=1, start_ticks=9)
    readings.apply("x", batch(processes=(process,), services=(totals,)), 1_000.0)

    window = readings.window(1_000.0 + age_s)

    assert (len(window.processes), len(window.services)) == (count, count)


def test_gpus_come_in_order_of_their_index():
    gpus = [Gpu("GPU-b", 1, "H100", "1"), Gpu("GPU-a", 0, "H100", "0")]

    assert [gpu.uuid for gpu in Window.of(gpus=gpus, now_s=1.0).gpus] == ["GPU-a", "GPU-b"]


def test_a_driver_that_nobody_looks_at_is_not_well():
    """When the sampler itself is gone, its last word does not stand for ever."""
    readings = Readings()
    readings.apply("nvml", batch(driver=Driver(up=True)), 1_000.0)

    assert readings.window(1_010.0).driver == Driver(up=True)
    assert readings.window(1_010.1).driver == NOT_LOOKED
    assert not NOT_LOOKED.up
