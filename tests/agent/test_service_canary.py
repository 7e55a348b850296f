"""A replica that gives other tokens than before: on evidence alone, and unknown when not asked."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.service_canary import KIND, detect
from gpuward.agent.kinds import class_of
from gpuward.agent.model import FindingClass, Outcome, Sample, SeriesKey
from gpuward.agent.window import Window

ABOUT = {"service": "chat", "endpoint": "a:1"}


def window(evidence, *, agreement_s=990.0, evidence_s=995.0):
    return Window.of(
        [
            Sample(SeriesKey("endpoint_canary_evidence_ratio", **ABOUT), evidence_s, evidence),
            Sample(SeriesKey("endpoint_canary_agreement_ratio", **ABOUT), agreement_s, 0.1),
            Sample(SeriesKey("endpoint_canary_usual_ratio", **ABOUT), agreement_s, 0.9),
        ],
        now_s=1_000.0,
    )


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(window(0.0), [], id="as before"),
        pytest.param(window(0.49), [], id="once low"),
        pytest.param(window(0.5), [Outcome.DOUBTFUL], id="low in a row"),
        pytest.param(window(0.99), [Outcome.DOUBTFUL], id="not yet"),
        pytest.param(window(1.0), [Outcome.BAD], id="evidence enough"),
        pytest.param(window(1.0, agreement_s=820.0), [Outcome.BAD], id="just fresh"),
        pytest.param(window(1.0, agreement_s=819.0), [Outcome.UNKNOWN], id="not asked lately"),
        pytest.param(window(1.0, evidence_s=819.0), [], id="nobody watches it any more"),
        pytest.param(Window.of(now_s=1_000.0), [], id="no canary"),
    ],
)
def test_detect(seen, expected):
    assert expected == [finding.outcome for finding in detect(seen)]


def test_it_is_a_ticket_and_says_how_much_agrees():
    (finding,) = detect(window(1.2))
    facts = {fact.name: fact.value for fact in finding.evidence}

    assert class_of(finding) is FindingClass.TICKET
    assert not KIND.page_when_failed
    assert finding.subject.endpoint == "a:1"
    assert facts == {"canary_agreement": 0.1, "usual_agreement": 0.9, "canary_evidence": 1.2}
