"""When a GPU may be measured: each rule from both sides, on a node that is otherwise fine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuward.agent.maintenance import Maintenance
from gpuward.agent.mig_device import MigDevice
from gpuward.agent.model import Driver, Gpu, Process, Sample, SeriesKey
from gpuward.agent.probe_rules import TICKS_PER_S, Worker, hindrance, pace
from gpuward.agent.window import Window

NOW_S = 1_000.0
MIB = float(1 << 20)
CARD = Gpu("GPU-1", 0, "H100", "0000:1B:00.0")
SLICED = replace(CARD, mig=(MigDevice("MIG-1", 1, 0), MigDevice("MIG-2", 2, 0)))
FINE = {
    "gpu_compute_mode": 0.0,
    "gpu_confidential_mode": 0.0,
    "gpu_mig_mode": 0.0,
    "gpu_memory_free_bytes": 4_096 * MIB,
    "gpu_memory_used_bytes": 70_000 * MIB,
}
FRESH, OPEN = Worker(pid=77), Worker(pid=77, context_s=500.0)


def engine(age_s=120.0, **changes):
    start_ticks = round((NOW_S - age_s) * TICKS_PER_S)
    return Process("vllm", 50, start_ticks, ("GPU-1",), service="chat", **changes)


ENGINE = engine()


def window_of(values=None, *, gpu=CARD, processes=(ENGINE,), driver=None, replicas=()):
    """``values``: by signal, one that never changed or what it was from second to second."""
    samples = []
    for name, said in {**FINE, **(values or {})}.items():
        key = SeriesKey(name, gpu=gpu.uuid) if isinstance(name, str) else name
        series = said if isinstance(said, list) else [said] * 200
        first_s = NOW_S - len(series) + 1
        samples += [Sample(key, first_s + at, value) for at, value in enumerate(series)]
    for signal, service, value in replicas:
        key = SeriesKey(signal, service=service, endpoint="127.0.0.1:8000")
        samples.append(Sample(key, NOW_S, value))
    return Window.of(samples, now_s=NOW_S, gpus=(gpu,), processes=processes, driver=driver)


@pytest.mark.parametrize("worker", [FRESH, OPEN], ids=["without a context", "with one"])
def test_a_node_that_is_fine(worker):
    assert hindrance(window_of(), "GPU-1", worker) == ""


def test_an_idle_gpu_is_measured():
    assert hindrance(window_of(processes=()), "GPU-1", FRESH) == ""


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        pytest.param({"gpu_compute_mode": 3.0}, "EXCLUSIVE_PROCESS", id="exclusive"),
        pytest.param({"gpu_compute_mode": 2.0}, "PROHIBITED", id="prohibited"),
        pytest.param({"gpu_compute_mode": []}, "not known", id="mode unknown"),
        pytest.param({"gpu_confidential_mode": 1.0}, "confidential mode: a", id="confidential"),
        pytest.param({"gpu_confidential_mode": []}, "is not known yet", id="perhaps confidential"),
        pytest.param({"gpu_mig_mode": [0.0] * 100 + [1.0]}, "MIG was switched", id="MIG on"),
        pytest.param({"gpu_mig_mode": [1.0] * 40 + [0.0] * 119}, "MIG was", id="MIG off 119 s"),
        pytest.param({"gpu_mig_mode": [1.0] * 40 + [0.0] * 121}, "", id="MIG off for 121 s"),
        pytest.param({"gpu_mig_mode": 1.0}, "MIG devices", id="MIG without a device"),
        pytest.param({"gpu_memory_free_bytes": []}, "not known", id="free memory unknown"),
    ],
)
@pytest.mark.parametrize("worker", [FRESH, OPEN], ids=["without a context", "with one"])
def test_modes(worker, values, reason):
    found = hindrance(window_of(values), "GPU-1", worker)

    assert (reason in found) if reason else (found == "")


@pytest.mark.parametrize("mode", ["gpu_compute_mode", "gpu_confidential_mode"])
def test_a_mode_that_the_card_does_not_have_is_none(mode):
    card = replace(CARD, unsupported=frozenset({mode}))

    assert hindrance(window_of({mode: []}, gpu=card), "GPU-1", FRESH) == ""


@pytest.mark.parametrize(
    ("free_mib", "worker", "allowed"),
    [
        # Three times a footprint of 768 MiB.
        pytest.param(2_304, FRESH, True, id="room for a context"),
        pytest.param(2_303, FRESH, False, id="not quite"),
        pytest.param(1_024, OPEN, True, id="the context is there already"),
        pytest.param(1_023, OPEN, False, id="and yet too full"),
    ],
)
def test_free_memory(free_mib, worker, allowed):
    window = window_of({"gpu_memory_free_bytes": free_mib * MIB})

    assert (hindrance(window, "GPU-1", worker) == "") is allowed


@pytest.mark.parametrize(
    ("process", "reason"),
    [
        pytest.param(engine(age_s=119.0), "vllm is 119 s old", id="young"),
        pytest.param(engine(age_s=120.0), "", id="old enough"),
        pytest.param(engine(age_s=-3.0), "vllm is 0 s old", id="born after the turn began"),
        pytest.param(replace(engine(1.0), gpus=("GPU-2",)), "", id="on another GPU"),
        pytest.param(replace(engine(1.0), pid=77), "", id="the worker itself"),
        pytest.param(
            replace(engine(1.0), unit="gpuward-probe@GPU-1.service"),
            "",
            id="the worker by its unit",
        ),
        pytest.param(replace(engine(), start_ticks=0), "vllm is 0 s old", id="age unknown"),
    ],
)
@pytest.mark.parametrize("worker", [FRESH, OPEN], ids=["without a context", "with one"])
def test_age(worker, process, reason):
    assert hindrance(window_of(processes=(process,)), "GPU-1", worker) == reason


@pytest.mark.parametrize(("seen_s", "allowed"), [(120, False), (122, True)])
def test_of_a_process_of_unknown_age_it_counts_since_when_it_is_seen(seen_s, allowed):
    key = SeriesKey("process_gpu_memory_bytes", gpu="GPU-1", process="vllm")
    window = window_of({key: [9e9] * seen_s}, processes=(replace(engine(), start_ticks=0),))

    assert (hindrance(window, "GPU-1", FRESH) == "") is allowed


@pytest.mark.parametrize(
    ("used_mib", "first", "later"),
    [
        pytest.param([100.0] * 60 + [163.0], "", "", id="63 MiB more"),
        pytest.param([100.0] * 60 + [164.0], "by 64 MiB", "by 64 MiB", id="64 MiB more"),
        pytest.param([100.0] + [900.0] * 61, "", "", id="a minute ago"),
        pytest.param([900.0] * 60 + [837.0], "", "", id="63 MiB less"),
        pytest.param(
            [900.0] * 60 + [836.0], "by 64 MiB", "", id="64 MiB less: what ended may begin"
        ),
        pytest.param([900.0] * 40 + [100.0] * 20 + [164.0], "by 800", "by 64", id="both"),
    ],
)
def test_movement(used_mib, first, later):
    """Growth is a reason always, an end only while the worker has taken nothing itself."""
    window = window_of({"gpu_memory_used_bytes": [mib * MIB for mib in used_mib]})

    for worker, reason in ((FRESH, first), (OPEN, later)):
        found = hindrance(window, "GPU-1", worker)
        assert (reason in found) if reason else (found == "")


@pytest.mark.parametrize(
    ("seconds", "worker", "allowed"),
    [
        pytest.param(0, FRESH, False, id="never seen"),
        pytest.param(60, FRESH, False, id="59 s"),
        pytest.param(61, FRESH, True, id="60 s"),
        pytest.param(0, OPEN, True, id="the context is there already"),
    ],
)
def test_memory_is_watched_before_any_is_taken(seconds, worker, allowed):
    """An agent that has just started does not know what has just begun."""
    window = window_of({"gpu_memory_used_bytes": [1e9] * seconds})

    assert (hindrance(window, "GPU-1", worker) == "") is allowed


def test_what_the_worker_took_itself_is_no_growth():
    """Its context came 20 s ago; what comes on top of it is another's."""
    took = [100 * MIB] * 40 + [700 * MIB] * 21
    worker = Worker(pid=77, context_s=NOW_S - 20.0)
    grew = [*took[:-1], 764 * MIB]

    assert hindrance(window_of({"gpu_memory_used_bytes": took}), "GPU-1", worker) == ""
    assert "moved" in hindrance(window_of({"gpu_memory_used_bytes": grew}), "GPU-1", worker)


@pytest.mark.parametrize(
    ("service", "ready", "worker", "reason"),
    [
        pytest.param("chat", 1.0, FRESH, "", id="ready"),
        pytest.param("chat", 0.0, FRESH, "127.0.0.1:8000 of chat is not ready", id="not ready"),
        pytest.param("chat", 0.0, OPEN, "127.0.0.1:8000 of chat is not ready", id="nor beside one"),
        pytest.param("new", 0.0, FRESH, "of new may be starting here", id="nobody knows where"),
        pytest.param("new", 0.0, OPEN, "", id="the context is there already"),
        pytest.param("new", 1.0, FRESH, "", id="elsewhere, and ready"),
    ],
)
def test_readiness(service, ready, worker, reason):
    window = window_of(replicas=[("replica_ready", service, ready)])
    found = hindrance(window, "GPU-1", worker)

    assert (reason in found) if reason else (found == "")


def test_an_engine_that_starts_on_another_gpu_is_no_reason():
    other = replace(engine(), key="other", gpus=("GPU-2",), service="other")
    window = window_of(processes=(engine(), other), replicas=[("replica_ready", "other", 0.0)])

    assert hindrance(window, "GPU-1", FRESH) == ""


@pytest.mark.parametrize(
    ("driver", "reason"),
    [
        pytest.param(Driver(up=False), "driver does not answer", id="silent"),
        pytest.param(
            Driver(up=True, maintenance=Maintenance(900.0, 2_000.0, "new driver")),
            "maintenance: new driver",
            id="maintenance",
        ),
    ],
)
def test_driver(driver, reason):
    assert reason in hindrance(window_of(driver=driver), "GPU-1", OPEN)


def test_mps():
    """Beside a server of MPS nothing is measured, on other GPUs it is."""
    server = replace(engine(), key="mps", pid=60, service="")
    window = window_of(processes=(engine(), server))

    assert "MPS" in hindrance(window, "GPU-1", FRESH, mps_pids=frozenset({60}))
    assert hindrance(window, "GPU-1", FRESH, mps_pids=frozenset({61})) == ""
    assert hindrance(window, "GPU-1", FRESH) == ""


def slices(free_mib=4_096.0, seen_s=200):
    said = {"gpu_mig_mode": 1.0, "gpu_memory_free_bytes": 0.0}
    for signal, value in (("total", 9_000.0), ("free", free_mib), ("used", 1.0)):
        key = SeriesKey(f"gpu_mig_memory_{signal}_bytes", gpu="MIG-1")
        said[key] = [value * MIB] * seen_s
    return said


@pytest.mark.parametrize(
    ("uuid", "values", "reason"),
    [
        pytest.param("GPU-1", slices(), "cut into MIG devices", id="the card is not measured"),
        pytest.param("MIG-1", slices(), "", id="a device of it is, by its own memory"),
        pytest.param("MIG-1", slices(free_mib=2_000.0), "2000 MiB are free", id="when it has room"),
        pytest.param("MIG-1", slices(seen_s=120), "made a moment ago", id="not one that is new"),
        pytest.param("MIG-1", slices(seen_s=122), "", id="but soon"),
        pytest.param("MIG-2", slices(), "made a moment ago", id="nor one without memory"),
        pytest.param("MIG-9", slices(), "no GPU of that UUID", id="nor one that is not there"),
    ],
)
def test_mig(uuid, values, reason):
    found = hindrance(window_of(values, gpu=SLICED), uuid, FRESH)

    assert (reason in found) if reason else (found == "")


def test_an_engine_that_starts_in_one_mig_device_is_a_reason_in_all():
    """The driver does not say in which."""
    window = window_of(slices(), gpu=SLICED, processes=(engine(age_s=5.0),))

    assert hindrance(window, "MIG-1", FRESH) == "vllm is 5 s old"


@pytest.mark.parametrize(
    ("waiting", "kv_cache", "expected"),
    [
        pytest.param(("chat", 0.0), 0.9, 1.0, id="nobody waits"),
        pytest.param(("chat", 1.0), 0.1, 2.0, id="one waits"),
        pytest.param(("other", 9.0), 0.1, 1.0, id="elsewhere"),
        pytest.param(("chat", 0.0), 0.91, 2.0, id="the cache is nearly full"),
    ],
)
def test_pace(waiting, kv_cache, expected):
    key = SeriesKey("process_kv_cache_usage_ratio", gpu="GPU-1", process="vllm")
    window = window_of({key: kv_cache}, replicas=[("replica_requests_waiting", *waiting)])

    assert pace(window, "GPU-1") == expected
