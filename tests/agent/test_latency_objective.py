"""A replica that burns its error budget: in both windows of a pair, and not by chance."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.latency_objective import detect
from gpuward.agent.model import Outcome, Sample, SeriesKey
from gpuward.agent.window import Window

REPLICA = {"service": "chat", "endpoint": "127.0.0.1:8000"}
REQUESTS, OVER = "replica_requests_total", "replica_requests_over_objective_total"
FAST, SLOW = "replica_objective_burn_ratio", "replica_objective_slow_burn_ratio"


def window(burns, *, requests, over, budget=None):
    """Return the window of a replica that served so many, evenly, in the last five minutes."""
    told = burns if budget is None else {**burns, "replica_objective_budget_ratio": budget}
    samples = [Sample(SeriesKey(s, **REPLICA), 1_000.0, value) for s, value in told.items()]
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


@pytest.mark.parametrize(
    ("budget", "burns", "outcome"),
    [
        pytest.param(0.05, {FAST: 10.0}, Outcome.BAD, id="5 %: half of all are slow"),
        pytest.param(0.05, {FAST: 9.9}, Outcome.DOUBTFUL, id="5 %: nearly half"),
        pytest.param(0.01, {FAST: 10.0}, Outcome.DOUBTFUL, id="1 %: a tenth is slow"),
        pytest.param(0.2, {SLOW: 2.5}, Outcome.BAD, id="20 %: half of all, for an hour"),
        pytest.param(0.2, {SLOW: 2.4}, Outcome.DOUBTFUL, id="20 %: nearly half"),
        pytest.param(0.001, {FAST: 14.4}, Outcome.BAD, id="0.1 %"),
    ],
)
def test_a_large_budget_cannot_burn_as_fast(budget, burns, outcome):
    """More than half of all requests being too slow is always too many."""
    (finding,) = detect(window(burns, requests=3_000, over=1_500, budget=budget))

    assert finding.outcome is outcome


def test_of_a_large_budget_more_slow_requests_are_chance():
    """6 of 6 in the minute, of a service that may be slow half of the time."""
    (finding,) = detect(window({FAST: 2.0}, requests=30, over=30, budget=0.5))

    assert finding.outcome is Outcome.DOUBTFUL


def test_it_says_how_many_and_how_fast():
    (finding,) = detect(window({FAST: 20.0}, requests=1_500, over=300))

    assert finding.summary == (
        "60 of 300 requests to chat at 127.0.0.1:8000 in 60 s were slower than the objective;"
        " the error budget burns 20.0 times too fast."
    )
    assert finding.subject.endpoint == "127.0.0.1:8000"
