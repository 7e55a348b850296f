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
    readings = Readings()
    samples = [
        Sample(SeriesKey("service_requests_waiting", service=name), at_s - 29 + second, float(n))
        for name, n in waiting.items()
        for second in range(30)
    ]
    on_gpu = tuple(
        Process(f"vllm-{n}", n + 1, n, ("GPU-1",), service=name) for n, name in enumerate(processes)
    )
    batch = Batch(
        samples=tuple(samples),
        gpus=(GPU,),
        processes=on_gpu,
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
