"""A replica that burns its error budget: in both windows of a pair, and not by chance."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.latency_objective import detect
from gpuward.agent.model import Outcome, Sample, SeriesKey
from gpuward.agent.window import Window

REPLICA = {"service": "chat", "endpoint": "127.0.0.1:8000"}
REQUESTS, OVER = "replica_requests_total", "replica_requests_over_objective_total"
FAST, SLOW = "replica_objective_burn_ratio", "replica_objective_slow_burn_ratio"


def window(burns, *, requests, over):
    """Return the window of a replica that served so many, evenly, in the last five minutes."""
    samples = [Sample(SeriesKey(s, **REPLICA), 1_000.0, value) for s, value in burns.items()]
    for signal, each_s in ((REQUESTS, requests / 300), (OVER, over / 300)):
        key = SeriesKey(signal, **REPLICA)
        samples += [Sample(key, 700.0 + s, each_s * s) for s in range(0, 301, 5)]
    return Window.of(samples, now_s=1_000.0)


@pytest.mark.parametrize(
    ("burns", "over", "outcome"),
    [
        pytest.param({FAST: 14.4}, 0.2, Outcome.BAD, id="fast"),
        pytest.param({FAST: 14.3}, 0.2, Outcome.DOUBTFUL, id="nearly as fast"),
        pytest.param({FAST: 7.2}, 0.2, Outcome.DOUBTFUL, id="half as fast"),
        pytest.param({FAST: 7.1}, 0.2, None, id="less than half as fast"),
        pytest.param({FAST: 1.0, SLOW: 6.0}, 0.08, Outcome.BAD, id="slow, for an hour"),
        pytest.param({FAST: 1.0, SLOW: 5.9}, 0.08, Outcome.DOUBTFUL, id="not quite so slow"),
        pytest.param({FAST: 1.0, SLOW: 3.0}, 0.08, Outcome.DOUBTFUL, id="half of that"),
        pytest.param({FAST: 1.0, SLOW: 2.9}, 0.08, None, id="it lasts"),
        pytest.param({FAST: 8.0, SLOW: 6.0}, 0.08, Outcome.BAD, id="doubtful fast, sure slow"),
        pytest.param({}, 0.2, None, id="no objective is counted"),
    ],
)
def test_detect(burns, over, outcome):
    """14.4 in a minute and five, or 6 in five and an hour; half of it keeps a finding."""
    found = detect(window(burns, requests=1_800, over=1_800 * over))

    assert [f.outcome for f in found] == ([outcome] if outcome else [])


@pytest.mark.parametrize(
    ("requests", "over", "outcome"),
    [
        pytest.param(10, 2, Outcome.DOUBTFUL, id="2 of 10: chance"),
        pytest.param(30, 15, Outcome.DOUBTFUL, id="3 of 6 in the minute: chance"),
        pytest.param(30, 30, Outcome.BAD, id="6 of 6 in the minute: none"),
    ],
)
def test_few_requests_are_no_proof(requests, over, outcome):
    """Of a service that keeps its objective chance makes them less than once in a million."""
    (finding,) = detect(window({FAST: 20.0}, requests=requests, over=over))

    assert outcome is finding.outcome


def test_it_says_how_many_and_how_fast():
    (finding,) = detect(window({FAST: 20.0}, requests=1_500, over=300))

    assert finding.summary == (
        "60 of 300 requests to chat at 127.0.0.1:8000 in 60 s were slower than the objective;"
        " the error budget burns 20.0 times too fast."
    )
    assert finding.subject.endpoint == "127.0.0.1:8000"
