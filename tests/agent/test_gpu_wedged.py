"""A GPU that is always busy and does nothing."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.gpu_wedged import detect
from gpuward.agent.model import Outcome

WEDGED = {
    "gpu_sm_active_ratio": 0.01,
    "gpu_dram_active_ratio": 0.0,
    "gpu_tensor_active_ratio": 0.0,
    "gpu_utilization_ratio": 1.0,
    "gpu_load_verdict": 4,
}
TOKENS = "service_tokens_total"
IN_FLIGHT = {"service_requests_waiting": 0, "service_requests_running": 3, TOKENS: 700}


@pytest.mark.parametrize(
    ("device", "service", "outcomes"),
    [
        pytest.param({}, {}, [Outcome.BAD], id="no token for those in flight"),
        pytest.param({}, {TOKENS: [700] * 290 + [701] * 10}, [], id="one token ten seconds ago"),
        pytest.param({}, {TOKENS: [700] * 269 + [701] * 31}, [Outcome.BAD], id="31 s ago"),
        pytest.param({"gpu_sm_active_ratio": 0.05}, {}, [], id="it works a little"),
        pytest.param({"gpu_load_verdict": []}, {}, [Outcome.UNKNOWN], id="not judged lately"),
    ],
)
def test_detect(serving_window, device, service, outcomes):
    findings = list(detect(serving_window(WEDGED | device, service=IN_FLIGHT | service)))

    assert outcomes == [finding.outcome for finding in findings]
