"""Requests that wait while the GPU has room."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.gpu_stalled import detect
from gpuward.agent.model import Outcome

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
