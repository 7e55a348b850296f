"""An upstream that does not answer, or fails half of what it is asked."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.service_upstream_down import detect
from gpuward.agent.kinds import class_of
from gpuward.agent.model import FindingClass, Outcome, Sample, SeriesKey
from gpuward.agent.window import Window

BAD, UNKNOWN, DOUBTFUL = Outcome.BAD, Outcome.UNKNOWN, Outcome.DOUBTFUL


def series(signal, values, *, last_s=995.0):
    key = SeriesKey(signal, endpoint="vectors")
    first_s = last_s - 10 * (len(values) - 1)
    return [Sample(key, first_s + 10 * place, float(value)) for place, value in enumerate(values)]


def counted(ended, failed):
    return [
        *series("upstream_requests_total", [0, ended]),
        *series("upstream_requests_failed_total", [0, failed]),
    ]


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        pytest.param(series("upstream_up", [1, 1]), [], id="answers"),
        pytest.param(series("upstream_up", [1, 0]), [DOUBTFUL], id="once not"),
        pytest.param(series("upstream_up", [1, 0, 0]), [BAD], id="twice not"),
        pytest.param(series("upstream_up", [0, 0, 1]), [], id="again"),
        pytest.param(series("upstream_up", [0, 0], last_s=910.0), [BAD], id="just fresh"),
        pytest.param(series("upstream_up", [0, 0], last_s=909.0), [], id="watched no more"),
        pytest.param(
            [
                *series("upstream_up", [0, 0], last_s=909.0),
                *series("upstream_probe_usual_seconds", [0.1]),
            ],
            [UNKNOWN],
            id="not asked lately",
        ),
        pytest.param(counted(10, 5), [BAD], id="half of ten fail"),
        pytest.param(counted(10, 4), [], id="four of ten"),
        pytest.param(counted(9, 9), [DOUBTFUL], id="nine are too few"),
        pytest.param([], [], id="no upstream"),
    ],
)
def test_detect(samples, expected):
    findings = list(detect(Window.of(samples, now_s=1_000.0)))

    assert expected == [finding.outcome for finding in findings]


def test_it_names_the_upstream():
    (finding,) = detect(Window.of(series("upstream_up", [1, 0, 0]), now_s=1_000.0))

    assert finding.summary == "Upstream vectors does not answer."
    assert finding.dedup_key == "service.upstream.down|||||vectors"
    assert finding.since_s == 985.0
    assert class_of(finding) is FindingClass.TICKET
