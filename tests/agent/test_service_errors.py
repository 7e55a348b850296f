"""A replica of which more requests fail than chance makes."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.service_errors import detect
from gpuward.agent.model import Outcome, Sample, SeriesKey
from gpuward.agent.window import Window

REPLICA = {"service": "chat", "endpoint": "127.0.0.1:8000"}
REQUESTS, USUAL = "replica_requests_total", "replica_requests_failed_usual_ratio"
FAILED, TIMED_OUT = "replica_requests_failed_total", "replica_requests_timed_out_total"


def window(requests, failed, *, usual=0.001, lasting_s=300.0, signal=FAILED):
    """Return the window of a replica that served and failed so many, evenly, until 1,000 s."""
    samples = []
    if usual is not None:
        samples.append(Sample(SeriesKey(USUAL, **REPLICA), 1_000.0, usual))
    for name, count in ((REQUESTS, requests), (signal, failed)):
        key, first_s = SeriesKey(name, **REPLICA), 1_000.0 - lasting_s
        samples += [
            Sample(key, first_s + lasting_s * part / 60, count * part / 60) for part in range(61)
        ]
    return Window.of(samples, now_s=1_000.0)


@pytest.mark.parametrize(
    ("requests", "failed", "usual", "outcome"),
    [
        pytest.param(3_000, 90, 0.001, Outcome.BAD, id="3 in 100"),
        pytest.param(3_000, 30, 0.001, Outcome.BAD, id="1 in 100"),
        pytest.param(3_000, 29, 0.001, Outcome.DOUBTFUL, id="nearly 1 in 100"),
        pytest.param(3_000, 15, 0.001, Outcome.DOUBTFUL, id="5 in 1,000 keep a finding"),
        pytest.param(3_000, 14, 0.001, None, id="less than that"),
        pytest.param(3_000, 90, 0.03, Outcome.DOUBTFUL, id="3 in 100 are usual"),
        pytest.param(3_000, 150, 0.02, Outcome.BAD, id="5 in 100 where 2 are usual"),
        pytest.param(2, 2, 0.001, Outcome.DOUBTFUL, id="2 of 2: chance"),
        pytest.param(15, 15, 0.001, Outcome.BAD, id="all of 15"),
        pytest.param(3_000, 0, 0.001, None, id="none"),
        pytest.param(3_000, 90, None, None, id="what is usual is not known"),
    ],
)
def test_detect(requests, failed, usual, outcome):
    """At least 1 in 100, and more than chance makes of what is usual."""
    found = detect(window(requests, failed, usual=usual))

    assert [f.outcome for f in found] == ([outcome] if outcome else [])


def test_a_request_that_timed_out_failed():
    (finding,) = detect(window(3_000, 90, signal=TIMED_OUT))

    assert finding.outcome is Outcome.BAD


def test_it_says_how_many_and_what_is_usual():
    """A minute's failures are told while the minute alone is proof."""
    (finding,) = detect(window(600, 60, lasting_s=60.0))

    assert finding.summary == (
        "60 of 600 requests to chat at 127.0.0.1:8000 failed in 60 s; usually it is 0.1%."
    )
    assert {e.name: e.value for e in finding.evidence} == {
        "requests": 600.0,
        "requests_failed": 60.0,
        "requests_failed_share": 0.1,
        "requests_failed_usual": 0.001,
    }
