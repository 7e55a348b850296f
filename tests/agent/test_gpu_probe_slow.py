"""Probes of a GPU that became slower: by the evidence that its sampler has."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.gpu_probe_slow import detect
from gpuward.agent.model import Outcome

EVENT, CLOCK = "gpu_probe_event_evidence_ratio", "gpu_probe_clock_evidence_ratio"
SHIFTS = {"gpu_probe_event_shift_ratio": 0.08, "gpu_probe_clock_shift_ratio": 0.2}


@pytest.mark.parametrize(
    ("evidence", "outcome", "figures"),
    [
        pytest.param({}, None, [], id="nothing is measured"),
        pytest.param({EVENT: 0.49, CLOCK: 0.0}, None, [], id="too little"),
        pytest.param({EVENT: 0.5}, Outcome.DOUBTFUL, ["event_shift"], id="half of what it takes"),
        pytest.param({EVENT: 0.99}, Outcome.DOUBTFUL, ["event_shift"], id="nearly"),
        pytest.param({EVENT: 1.0}, Outcome.BAD, ["event_shift"], id="enough"),
        pytest.param(
            {EVENT: 1.0, CLOCK: 0.6}, Outcome.BAD, ["clock_shift", "event_shift"], id="worst first"
        ),
    ],
)
def test_detect(gpu_window, evidence, outcome, figures):
    findings = list(detect(gpu_window(SHIFTS | evidence)))

    assert [f.outcome for f in findings] == ([outcome] if outcome else [])
    assert [e.name for f in findings for e in f.evidence] == figures
    assert {f.subject.gpu for f in findings} <= {"GPU-1"}


def test_summary_says_what_and_by_how_much(gpu_window):
    (finding,) = detect(gpu_window(SHIFTS | {CLOCK: 1.2}))

    assert finding.summary == "Probes of the GPU: kernels get a lower clock, by 20%."


def test_what_was_measured_long_ago_says_nothing(gpu_window):
    window = gpu_window(SHIFTS | {CLOCK: [2.0]}, late_s=181.0)

    assert list(detect(window)) == []
