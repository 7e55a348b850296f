"""A GPU at a ceiling while requests wait: stored, with the name of the ceiling."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.gpu_saturated import KIND, detect
from gpuward.agent.model import FindingClass, Outcome

FULL = {"gpu_sm_active_ratio": 0.5, "gpu_dram_active_ratio": 0.8, "gpu_load_verdict": 2}
QUEUE = {"service_requests_waiting": 9, "service_requests_running": 64}


@pytest.mark.parametrize(
    ("device", "service", "outcomes"),
    [
        pytest.param({}, QUEUE, [Outcome.BAD], id="full, and requests wait"),
        pytest.param({"gpu_load_verdict": 1}, {"service_requests_waiting": 0}, [], id="efficient"),
        pytest.param({}, {"service_requests_waiting": 0}, [], id="the queue has just gone"),
        pytest.param({"gpu_load_verdict": []}, QUEUE, [Outcome.UNKNOWN], id="not judged lately"),
    ],
)
def test_detect(serving_window, device, service, outcomes):
    findings = list(detect(serving_window(FULL | device, service=service)))

    assert outcomes == [finding.outcome for finding in findings]


def test_it_names_the_limiter_and_wakes_nobody(serving_window):
    (finding,) = detect(serving_window(FULL, service=QUEUE))
    facts = {fact.name: fact for fact in finding.evidence}

    assert KIND.default_class is FindingClass.STORE
    assert not KIND.page_when_failed
    assert finding.summary == "GPU 0 is saturated: its memory bandwidth is the limit."
    assert facts["gpu_limiter"].text == "memory bandwidth"
    assert facts["requests_waiting"].value == 9
    assert finding.subject.service == "chat"
