"""How the services on a GPU fare."""

from __future__ import annotations

import pytest

from gpuward.agent.model import Batch, Driver, Gpu, Process, Sample, SeriesKey
from gpuward.agent.service_load import service_load
from gpuward.agent.service_totals import ServiceTotals
from gpuward.agent.window import Readings

GPU = Gpu("GPU-1", 0, "NVIDIA H100", "1B:00.0")


def instance(name, *, ready=True):
    return ServiceTotals("chat", name, 1.0, 1.0, 0, 0, 0, 0, 0, ready, 0, 0)


def window(waiting, *, instances=(), processes=("chat",), at_s=1_000.0):
    """Return the window at 1,000 s of services with so many that wait, by name."""
    samples = [
        sample
        for name, n in waiting.items()
        for sample in steady(SeriesKey("service_requests_waiting", service=name), n, at_s)
    ]
    on_gpu = [
        Process(f"vllm-{n}", n + 1, n, ("GPU-1",), service=name) for n, name in enumerate(processes)
    ]
    return window_of(samples, on_gpu, instances)


def steady(key, value, at_s=1_000.0):
    return [Sample(key, at_s - 29 + second, float(value)) for second in range(30)]


def replicas(each):
    """Return the window of ``chat``, a replica on each GPU, with figures of each by its name."""
    samples, processes = [], []
    for n, (endpoint, figures) in enumerate(each.items(), start=1):
        processes.append(
            Process(f"vllm-{n}", n, n, (f"GPU-{n}",), service="chat", endpoint=endpoint)
        )
        for figure, values in figures.items():
            key = SeriesKey(f"replica_{figure}", service="chat", endpoint=endpoint)
            if isinstance(values, list):
                first_s = 1_001.0 - len(values)
                samples += [Sample(key, first_s + s, float(v)) for s, v in enumerate(values)]
            else:
                samples += steady(key, values)
    total = sum(figures.get("requests_waiting", 0) for figures in each.values())
    samples += steady(SeriesKey("service_requests_waiting", service="chat"), total)
    return window_of(samples, processes, [instance(endpoint) for endpoint in each])


def window_of(samples, processes, instances):
    readings = Readings()
    batch = Batch(
        samples=tuple(samples),
        gpus=(GPU,),
        processes=tuple(processes),
        services=tuple(instances),
        driver=Driver(up=True),
    )
    readings.apply("test", batch, 1_000.0)
    return readings.window(1_000.0)


@pytest.mark.parametrize(
    ("instances", "is_queueing"),
    [
        pytest.param([], True, id="nobody says how many there are"),
        pytest.param([instance("a")], True, id="one engine"),
        pytest.param([instance("a"), instance("b")], False, id="two share the queue"),
        pytest.param([instance("a"), instance("b", ready=False)], True, id="one of two is ready"),
    ],
)
def test_a_queue_is_shared_by_the_engines_that_are_ready(instances, is_queueing):
    """Six that wait are too many for one engine."""
    assert (
        is_queueing == service_load(window({"chat": 6}, instances=instances), "GPU-1").is_queueing
    )


@pytest.mark.parametrize(
    ("own", "sibling", "is_queueing"),
    [
        pytest.param(0, 600, False, id="all wait at the sibling"),
        pytest.param(5, 600, False, id="five may wait"),
        pytest.param(6, 600, True, id="six are too many, whatever the sibling's queue"),
        pytest.param(6, 0, True, id="one of two is behind: a share of all would hide it"),
    ],
)
def test_who_waits_at_a_sibling_does_not_wait_here(own, sibling, is_queueing):
    """A balancer that keeps conversations where their cache is does not share a queue out."""
    seen = replicas({"a:1": {"requests_waiting": own}, "b:1": {"requests_waiting": sibling}})

    assert (own, is_queueing) == (
        service_load(seen, "GPU-1").waiting,
        service_load(seen, "GPU-1").is_queueing,
    )


def test_what_a_sibling_does_is_not_done_here():
    """Tokens, running and late requests are the replica's own too."""
    idle = {"requests_waiting": 0, "requests_running": 8, "tokens_total": 5_000}
    counts = list(range(61))
    late = {"requests_total": counts, "requests_over_objective_total": counts}
    busy = {
        "requests_waiting": 0,
        "requests_running": 20,
        "tokens_total": [100 * n for n in counts],
    }
    seen = replicas({"a:1": idle, "b:1": busy | late})
    here, there = service_load(seen, "GPU-1"), service_load(seen, "GPU-2")

    assert (here.running, here.tokens_per_second, here.over_objective_ratio) == (8, 0, None)
    assert (there.running, there.tokens_per_second, there.over_objective_ratio) == (20, 100, 1)


def test_a_replica_whose_page_is_silent_is_unknown():
    """It takes no requests, or nobody knows which: its siblings' queue says nothing of its GPU."""
    seen = replicas({"a:1": {}, "b:1": {"requests_waiting": 600}})

    assert service_load(seen, "GPU-1") is None


def test_of_several_services_the_worst_counts():
    seen = window({"chat": 1, "embed": 9}, processes=("chat", "embed"))

    assert service_load(seen, "GPU-1").service == "embed"


@pytest.mark.parametrize(
    ("seen", "gpu"),
    [
        pytest.param(window({"chat": 9}), "GPU-2", id="it runs elsewhere"),
        pytest.param(window({"chat": 9}, at_s=960.0), "GPU-1", id="its page is old"),
        pytest.param(window({}), "GPU-1", id="its page was never read"),
        pytest.param(window({"chat": 9}, processes=("",)), "GPU-1", id="it serves nobody known"),
    ],
)
def test_unknown_is_no_load(seen, gpu):
    assert service_load(seen, gpu) is None
