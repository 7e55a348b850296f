"""An upstream that takes twice as long as usual: stored, never told."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.service_upstream_slow import detect
from gpuward.agent.kinds import class_of
from gpuward.agent.model import FindingClass, Outcome, Sample, SeriesKey
from gpuward.agent.window import Window

BAD, UNKNOWN, DOUBTFUL = Outcome.BAD, Outcome.UNKNOWN, Outcome.DOUBTFUL


def series(signal, values, *, last_s=999.0):
    key = SeriesKey(signal, endpoint="vectors")
    first_s = last_s - 10 * (len(values) - 1)
    return [Sample(key, first_s + 10 * place, float(value)) for place, value in enumerate(values)]


def probed(seconds, usual, *, times=3):
    return [
        *series("upstream_up", [1] * times),
        *series("upstream_probe_seconds", [seconds] * times),
        *(series("upstream_probe_usual_seconds", [usual]) if usual else ()),
    ]


def counted(requests, seconds, usual):
    return [
        *series("upstream_requests_total", [0, requests]),
        *series("upstream_latencies_total", [0, requests]),
        *series("upstream_latency_seconds_total", [0.0, requests * seconds]),
        *series("upstream_latency_usual_seconds", [usual]),
    ]


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        pytest.param(probed(0.1, 0.1), [], id="as usual"),
        pytest.param(probed(0.149, 0.1), [], id="a little slower"),
        pytest.param(probed(0.151, 0.1), [DOUBTFUL], id="half as slow again"),
        pytest.param(probed(0.199, 0.1), [DOUBTFUL], id="nearly twice"),
        pytest.param(probed(0.2, 0.1), [BAD], id="twice"),
        pytest.param(probed(0.02, 0.001), [], id="19 ms more are not waited for"),
        pytest.param(probed(0.022, 0.001), [BAD], id="21 ms more are"),
        pytest.param(probed(0.2, 0.1, times=2), [DOUBTFUL], id="two say little"),
        pytest.param(probed(0.2, None), [DOUBTFUL], id="nothing is usual yet"),
        pytest.param(counted(10, 0.25, 0.1), [BAD], id="callers wait twice as long"),
        pytest.param(counted(10, 0.1, 0.1), [], id="callers wait as usual"),
        pytest.param(counted(9, 0.25, 0.1), [DOUBTFUL], id="too few callers"),
        pytest.param(series("upstream_probe_usual_seconds", [0.1]), [UNKNOWN], id="not asked"),
        pytest.param([], [], id="no upstream"),
    ],
)
def test_detect(samples, expected):
    findings = list(detect(Window.of(samples, now_s=1_000.0)))

    assert expected == [finding.outcome for finding in findings]


def test_it_is_stored():
    (finding,) = detect(Window.of(probed(0.3, 0.1), now_s=1_000.0))
    facts = {fact.name: (fact.value, fact.threshold) for fact in finding.evidence}

    assert class_of(finding) is FindingClass.STORE
    assert finding.subject.endpoint == "vectors"
    assert facts == {"own_requests": (0.3, 0.2), "usual_own_requests": (0.1, None)}
