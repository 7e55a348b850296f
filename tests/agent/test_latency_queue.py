"""A replica with a queue that stands."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.latency_queue import detect
from gpuward.agent.model import Outcome, Sample, SeriesKey
from gpuward.agent.window import Window

REPLICA = {"service": "chat", "endpoint": "127.0.0.1:8000"}
WAITING, RUNNING = "replica_requests_waiting", "replica_requests_running"


def window(waiting, running, *, now_s=1_000.0, ranks=None):
    """Return the window of a replica with these figures, a second each, the last at 1,000 s."""
    samples = []
    of_ranks = [(signal, [value] * 60) for signal, value in (ranks or {}).items()]
    for signal, values in ((WAITING, waiting), (RUNNING, running), *of_ranks):
        key = SeriesKey(signal, **REPLICA)
        first_s = 1_001.0 - len(values)
        samples += [Sample(key, first_s + place, float(v)) for place, v in enumerate(values)]
    return Window.of(samples, now_s=now_s)


@pytest.mark.parametrize(
    ("waiting", "running", "outcome"),
    [
        pytest.param([30] * 60, [100] * 60, Outcome.BAD, id="a queue that stands"),
        pytest.param([25] * 60, [100] * 60, Outcome.DOUBTFUL, id="a fifth of their time"),
        pytest.param([26] * 60, [100] * 60, Outcome.BAD, id="a little more than a fifth"),
        pytest.param([11] * 60, [99] * 60, None, id="a tenth of their time"),
        pytest.param([12] * 60, [100] * 60, Outcome.DOUBTFUL, id="more than a tenth keeps it"),
        pytest.param([100] * 48 + [0] * 12, [100] * 60, Outcome.BAD, id="four fifths of a minute"),
        pytest.param([100] * 47 + [0] * 13, [100] * 60, Outcome.DOUBTFUL, id="a little less"),
        pytest.param([200] * 24 + [0] * 36, [100] * 60, Outcome.DOUBTFUL, id="half of that"),
        pytest.param([200] * 23 + [0] * 37, [100] * 60, None, id="less than half of that"),
        pytest.param([30] * 60, [0] * 60, Outcome.BAD, id="nothing runs at all"),
        pytest.param([0] * 60, [100] * 60, None, id="nobody waits"),
        pytest.param([30] * 9, [100] * 9, None, id="too few looks"),
        pytest.param([30] * 10, [100] * 10, Outcome.BAD, id="enough looks"),
        pytest.param([30] * 60, [], None, id="it does not tell how many run"),
        pytest.param([0] * 60 + [30] * 60, [100] * 120, Outcome.BAD, id="before that it was none"),
    ],
)
def test_detect(waiting, running, outcome):
    """Some wait at four looks of five, and wait for more than a fifth of their time."""
    found = detect(window(waiting, running))

    assert [f.outcome for f in found] == ([outcome] if outcome else [])


@pytest.mark.parametrize(
    ("rank", "outcome"),
    [
        pytest.param(None, None, id="of one rank the sums are judged"),
        pytest.param((15, 15), Outcome.BAD, id="one of eight is full"),
        pytest.param((1, 15), None, id="none is"),
    ],
)
def test_a_full_rank_is_not_hidden_by_empty_ones(rank, outcome):
    """Fifteen wait at one rank, and 150 run at the eight of them: a tenth, by their sums."""
    sums = ([15] * 60, [150] * 60)
    if rank is None:
        found = list(detect(window(*sums)))
    else:
        signals = ("replica_rank_requests_waiting", "replica_rank_requests_running")
        found = list(detect(window(*sums, ranks=dict(zip(signals, rank, strict=True)))))

    assert [f.outcome for f in found] == ([outcome] if outcome else [])
    assert all(" (at one of its ranks) wait" in f.summary for f in found)


@pytest.mark.parametrize(("silent_s", "outcome"), [(2, Outcome.BAD), (3, Outcome.UNKNOWN)])
def test_a_silent_page_proves_nothing(silent_s, outcome):
    """Three pages missed: nobody knows whether they still wait."""
    (finding,) = detect(window([30] * 60, [100] * 60, now_s=1_000.0 + silent_s))

    assert outcome is finding.outcome


def test_it_says_whether_it_grows():
    """Half a request more each second."""
    (finding,) = detect(window([10 + place / 2 for place in range(60)], [60] * 60))
    told = {e.name: e.value for e in finding.evidence}

    assert told["requests_waiting_per_minute"] == pytest.approx(30.0)
    assert told["requests_waiting"] == pytest.approx(24.75)
    assert told["queue_share"] == pytest.approx(24.75 / 84.75)
    assert finding.summary == (
        "25 requests to chat at 127.0.0.1:8000 wait, and spend 29% of their time so."
    )
