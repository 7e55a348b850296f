"""Maps that users write: selectors as in PromQL, units, what is refused and how it is said."""

from __future__ import annotations

import pytest

from gpuward.agent.engine_config import EngineConfig
from gpuward.agent.engines.page_reader import PageReader
from gpuward.agent.engines.selector import selector
from gpuward.daemon.config import ConfigError, parse

OWN = """
service = "chat"
url = "http://127.0.0.1:9000"
kind = "openmetrics"
[map]
page = "/stats"
[map.figures]
requests_total = [
    { names = ["my_requests_total"] },
    { names = ["my_refusals_total"] },
]
requests_failed_total = [{ names = ['my_requests_total{code=~"5.."}'] }]
kv_cache_usage_ratio = [{ names = ["my_cache_percent"], factor = 0.01, across = "max" }]
[map.durations]
latency = { histogram = ["my_latency_ms"], factor = 0.001 }
queue = { sum = ["my_wait_us"], count = ["my_waits"], factor = 1e-6 }
"""


def test_an_engine_of_ones_own():
    engine = parse(OWN, EngineConfig, name="agent.toml")
    found = PageReader("openmetrics", engine.map).read(
        'my_requests_total{code="200"} 8\n'
        'my_requests_total{code="503"} 2\n'
        'my_cache_percent{gpu="0"} 20\n'
        'my_cache_percent{gpu="1"} 40\n'
        'my_latency_ms_bucket{le="500"} 9\n'
        'my_latency_ms_bucket{le="+Inf"} 10\n'
        "my_latency_ms_sum 4000\n"
        "my_latency_ms_count 10\n"
        "my_wait_us 250000\n"
        "my_waits 10\n"
    )

    assert found.figures == {
        "requests_total": 10.0,
        "requests_failed_total": 2.0,
        "kv_cache_usage_ratio": pytest.approx(0.4),
    }
    latency, queue = found.durations["latency"], found.durations["queue"]
    assert (latency.seconds, latency.count) == (4.0, 10.0)
    assert latency.buckets.edges == (0.5, float("inf"))
    assert (queue.seconds, queue.count) == (0.25, 10.0)
    assert found.over(0.5) == 1.0


@pytest.mark.parametrize(
    ("text", "labels", "admits"),
    [
        pytest.param("a", {"x": "1"}, True, id="any"),
        pytest.param('a{x="1"}', {"x": "1", "y": "2"}, True, id="equal"),
        pytest.param('a{x="1"}', {"x": "11"}, False, id="not equal"),
        pytest.param('a{x="1.2"}', {"x": "1x2"}, False, id="equal is no pattern"),
        pytest.param('a{x=~"5.."}', {"x": "503"}, True, id="pattern"),
        pytest.param('a{x=~"5.."}', {"x": "5033"}, False, id="patterns match whole values"),
        pytest.param('a{x!~"5.."}', {"x": "200"}, True, id="not the pattern"),
        pytest.param('a{x!="5"}', {}, True, id="what is absent is not 5"),
        pytest.param('a{x=""}', {}, True, id="what is absent is empty"),
        pytest.param('a{x="1", y="2",}', {"x": "1", "y": "2"}, True, id="two, and a comma"),
        pytest.param('a{x="1",y="2"}', {"x": "1", "y": "3"}, False, id="both must be"),
        pytest.param(r'a{x="q\"\\"}', {"x": 'q"\\'}, True, id="escapes"),
        pytest.param("a{}", {}, True, id="empty braces"),
    ],
)
def test_selector(text, labels, admits):
    assert selector(text).name == "a"
    assert selector(text).admits(labels) is admits


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "is not a metric", id="nothing"),
        pytest.param("1a", "is not a metric", id="no name"),
        pytest.param('a{x="1"', "is not a metric", id="left open"),
        pytest.param("a{x=1}", 'expected label="value" at', id="no quotes"),
        pytest.param('a{x="1"y="2"}', 'expected label="value" at', id="no comma"),
        pytest.param('a{x=~"("}', "is not a regular expression", id="broken pattern"),
    ],
)
def test_no_selector(text, reason):
    with pytest.raises(ValueError, match=reason):
        selector(text)


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        pytest.param('["my_waits"]', "[]", "either histogram, or sum and count", id="no count"),
        pytest.param('"my_cache_percent"', '"my cache"', "is not a metric", id="no name"),
        pytest.param('["my_cache_percent"]', "[]", "names is empty", id="no names"),
        pytest.param("factor = 0.01", "factor = 0.0", "factor must be above 0", id="factor 0"),
        pytest.param("factor = 0.01", "factor = inf", "factor must be above 0", id="infinite"),
        pytest.param("requests_failed_total", "errors", "errors", id="not a figure of ours"),
        pytest.param("queue =", "waiting =", "waiting", id="not a duration of ours"),
        pytest.param('"max"', '"mean"', "mean", id="not a way to add"),
        pytest.param('"openmetrics"', '"vllm"', "map is for kind openmetrics", id="two maps"),
    ],
)
def test_what_is_no_map(before, after, reason):
    """A mistake is refused when the file is read, with what is wrong."""
    assert before in OWN
    with pytest.raises(ConfigError, match=reason):
        parse(OWN.replace(before, after), EngineConfig, name="agent.toml")
