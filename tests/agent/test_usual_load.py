"""What is usual of a replica: the median minute of the last hour."""

from __future__ import annotations

import pytest

from gpuward.agent.model import Batch, Sample, SeriesKey
from gpuward.agent.replica_demand import arrivals, prompt_tokens
from gpuward.agent.samplers.usual import UsualLoad
from gpuward.agent.window import Readings, Window

REQUESTS, PROMPTS = "replica_requests_total", "replica_prompts_total"
TOKENS = "replica_prompt_tokens_total"
WAITING, RUNNING = "replica_requests_waiting", "replica_requests_running"
KEY = SeriesKey(REQUESTS, service="chat", endpoint="h:8000")


def window(**series):
    """Show the ends of a minute: a pair of values for each signal."""
    samples = [
        Sample(KEY._replace(signal=signal), at_s, value)
        for signal, ends in series.items()
        for at_s, value in zip((940.0, 1_000.0), ends, strict=True)
    ]
    return Window.of(samples, now_s=1_000.0)


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        pytest.param({PROMPTS: (0, 100), TOKENS: (0, 50_000)}, 500.0, id="mean of the minute"),
        pytest.param({PROMPTS: (0, 20), TOKENS: (0, 2_000)}, 100.0, id="just enough prompts"),
        pytest.param({PROMPTS: (0, 19), TOKENS: (0, 2_000)}, None, id="too few prompts"),
        pytest.param({}, None, id="nobody counts"),
    ],
)
def test_prompt_tokens(series, expected):
    assert prompt_tokens(window(**series), KEY, 60.0) == expected


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        pytest.param({REQUESTS: (0, 120)}, 2.0, id="what finishes came"),
        pytest.param(
            {REQUESTS: (0, 120), WAITING: (0, 50), RUNNING: (20, 30)}, 3.0, id="what piles up too"
        ),
        pytest.param({REQUESTS: (0, 60), WAITING: (60, 0)}, 0.0, id="a queue is worked off"),
        pytest.param({}, None, id="nobody counts"),
    ],
)
def test_arrivals(series, expected):
    assert arrivals(window(**series), KEY, 60.0) == expected


def test_a_minute_of_which_little_was_seen_is_none():
    samples = [Sample(KEY, at_s, at_s) for at_s in (975.0, 1_000.0)]

    assert arrivals(Window.of(samples, now_s=1_000.0), KEY, 60.0) is None


class Replica:
    """Lives by the minute; what a minute brings is told by its requests and tokens a prompt."""

    def __init__(self):
        self.readings, self.usual = Readings(), UsualLoad(lambda _: None)
        self.now_s, self.requests, self.tokens = 0.0, 0.0, 0.0
        self._say()

    def _say(self):
        values = {REQUESTS: self.requests, PROMPTS: self.requests, TOKENS: self.tokens}
        samples = [Sample(KEY._replace(signal=s), self.now_s, v) for s, v in values.items()]
        self.readings.apply("engine", Batch(samples=tuple(samples)), self.now_s)

    def minute(self, requests, length):
        """Live one minute; returns what is usual after it, by signal."""
        self.now_s += 60.0
        self.requests += requests
        self.tokens += requests * length
        self._say()
        found = self.usual.usual(self.readings.window(self.now_s))
        return {sample.key.signal: sample.value for sample in found}


def test_four_minutes_are_not_usual_yet_and_five_are():
    replica = Replica()
    learned = [replica.minute(60, 500) for _ in range(5)]

    assert learned[:4] == [{}] * 4
    assert learned[4] == {
        "replica_prompt_tokens_usual": 500.0,
        "replica_arrivals_usual_per_second": 1.0,
    }


def test_half_an_hour_of_something_else_is_not_usual_and_an_hour_is():
    replica = Replica()
    for _ in range(60):
        replica.minute(60, 500)
    after = [replica.minute(180, 2_000) for _ in range(60)]

    assert after[28]["replica_prompt_tokens_usual"] == 500.0
    assert after[59] == {
        "replica_prompt_tokens_usual": 2_000.0,
        "replica_arrivals_usual_per_second": 3.0,
    }


def test_a_replica_that_is_gone_for_long_begins_anew():
    replica = Replica()
    for _ in range(5):
        replica.minute(60, 500)
    for second in range(0, 700, 60):
        list(replica.usual.usual(Window.of(now_s=replica.now_s + second)))

    assert replica.minute(60, 500) == {}
