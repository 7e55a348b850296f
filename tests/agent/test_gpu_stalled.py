"""Requests that wait while the GPU has room."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.gpu_stalled import detect
from gpuward.agent.model import Gpu, Outcome, Process, Sample, SeriesKey
from gpuward.agent.window import Window

SM, DRAM, VERDICT = "gpu_sm_active_ratio", "gpu_dram_active_ratio", "gpu_load_verdict"
ROOM = {SM: 0.4, DRAM: 0.3, VERDICT: 3}
WAITING, REQUESTS = "service_requests_waiting", "service_requests_total"
OVER = "service_requests_over_objective_total"
QUEUE = {WAITING: 9}
SLOW = {WAITING: 0, REQUESTS: list(range(300)), OVER: list(range(300))}


@pytest.mark.parametrize(
    ("device", "service", "outcomes"),
    [
        pytest.param({}, QUEUE, [Outcome.BAD], id="room, and requests wait"),
        pytest.param({SM: 0.66}, QUEUE, [Outcome.BAD], id="loaded to just under 70 %"),
        pytest.param({SM: 0.67}, QUEUE, [Outcome.DOUBTFUL], id="to just over"),
        pytest.param({}, SLOW, [], id="slow answers alone: the objective may be a wish"),
        pytest.param({VERDICT: 0}, {WAITING: 0}, [], id="nobody waits"),
        pytest.param({DRAM: 0.8, VERDICT: 2}, QUEUE, [], id="full: another finding"),
        pytest.param({VERDICT: []}, QUEUE, [Outcome.UNKNOWN], id="not judged lately"),
    ],
)
def test_detect(serving_window, device, service, outcomes):
    findings = list(detect(serving_window(ROOM | device, service=service)))

    assert outcomes == [finding.outcome for finding in findings]


def test_coarse_figures_are_believed_less(serving_window):
    coarse = {"gpu_utilization_ratio": 0.5, VERDICT: 3}
    (finding,) = detect(serving_window(coarse, service=QUEUE))

    assert finding.confidence == 0.4


@pytest.mark.parametrize(
    ("waiting", "named"),
    [
        pytest.param((5, 600), ["GPU-1"], id="all but five wait at the other replica"),
        pytest.param((6, 600), ["GPU-0", "GPU-1"], id="six wait here as well"),
        pytest.param((6, 0), ["GPU-0"], id="here alone"),
    ],
)
def test_only_the_gpu_that_requests_wait_for_is_named(waiting, named):
    """Two replicas of a service on a GPU each, both with room."""
    gpus = [Gpu(f"GPU-{n}", n, "NVIDIA H100", f"00000000:{n:02X}:00.0") for n in range(2)]
    processes = [
        Process(f"vllm-{n}", 100 + n, n, (f"GPU-{n}",), service="chat", endpoint=f"h:{n}")
        for n in range(2)
    ]
    steady = {SeriesKey("service_requests_waiting", service="chat"): sum(waiting)}
    for n, gpu in enumerate(gpus):
        steady |= {SeriesKey(signal, gpu=gpu.uuid): value for signal, value in ROOM.items()}
        steady[SeriesKey("replica_requests_waiting", service="chat", endpoint=f"h:{n}")] = waiting[
            n
        ]
    samples = [
        Sample(key, 970.0 + second, float(value))
        for key, value in steady.items()
        for second in range(31)
    ]
    window = Window.of(samples, now_s=1_000.0, gpus=gpus, processes=processes)

    assert named == [finding.subject.gpu for finding in detect(window)]
