"""Every engine's page in the same words: eight pages of the same traffic, and what each cannot say.

The traffic: 100 requests, of which 3 failed; 97 latencies, 4 of them above 5 s; 7 requests wait, 5
run; the fuller of two caches is used by 41 %.  An engine that counts otherwise has its own row.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gpuward.agent.engines.page_reader import PageReader
from gpuward.agent.engines.shipped import KINDS, pages, recognised, shipped

FOLDER = Path(__file__).parents[1] / "fixtures" / "engines"
FIGURES = {
    "requests_total": 100,
    "requests_failed_total": 3,
    "requests_timed_out_total": 1,
    "requests_waiting": 7,
    "requests_running": 5,
    "requests_limit": 64,
    "kv_cache_usage_ratio": 0.41,
    "preemptions_total": 2,
    "tokens_total": 12_000,
    "prompt_tokens_total": 50_000,
    "prompts_total": 97,
    "cached_prompt_tokens_total": 8_000,
}
DURATIONS = {
    "latency": (194.0, 97),
    "first_token": (19.4, 97),
    "inter_token": (238.06, 11_903),
    "queue": (9.7, 97),
    "prefill": (9.7, 97),
    "decode": (174.6, 97),
}
# A mean of each request: as many as requests.
OF_REQUESTS = {"inter_token": (1.94, 97)}

KINDS_AND_GAPS = [
    pytest.param("vllm", {"requests_timed_out_total", "requests_limit"}, {}, id="vllm"),
    pytest.param("sglang", {"requests_limit", "decode"}, {}, id="sglang"),
    pytest.param(
        "trtllm", {"preemptions_total"}, {"prompts_total": 96, **OF_REQUESTS}, id="trtllm"
    ),
    pytest.param(
        "triton",
        {
            *("requests_timed_out_total", "preemptions_total", "tokens_total", "prompts_total"),
            *("prompt_tokens_total", "cached_prompt_tokens_total"),
            *("inter_token", "prefill", "decode"),
        },
        # Two counters of 96 successes.
        {"latency": (194.0, 96), "queue": (9.7, 96)},
        id="triton",
    ),
    pytest.param(
        "tgi",
        {
            *("requests_timed_out_total", "requests_limit", "kv_cache_usage_ratio"),
            *("preemptions_total", "cached_prompt_tokens_total"),
            *("first_token", "prefill", "decode"),
        },
        OF_REQUESTS,
        id="tgi",
    ),
    pytest.param("ray", {"requests_limit"}, {}, id="ray"),
    pytest.param(
        "llama.cpp",
        {
            *("requests_total", "requests_failed_total", "requests_timed_out_total"),
            *("requests_limit", "kv_cache_usage_ratio", "preemptions_total", "prompts_total"),
            *("latency", "first_token", "queue", "prefill", "decode"),
        },
        {"inter_token": (240.0, 12_000)},
        id="llama.cpp",
    ),
    pytest.param(
        "dynamo",
        {
            *("requests_timed_out_total", "requests_limit", "preemptions_total"),
            *("queue", "prefill", "decode"),
        },
        {},
        id="dynamo",
    ),
]


def page(kind):
    return (FOLDER / f"{kind}.txt").read_text()


def read(kind, text=None):
    return PageReader(kind, shipped(kind)).read(page(kind) if text is None else text)


@pytest.mark.parametrize(("kind", "gaps", "own"), KINDS_AND_GAPS)
def test_the_same_traffic_in_the_same_words(kind, gaps, own):
    """What a page tells is what it tells of every engine; what it does not tell is not there."""
    found = read(kind)

    figures = {name: own.get(name, value) for name, value in FIGURES.items() if name not in gaps}
    assert figures == found.figures
    durations = {name: own.get(name, pair) for name, pair in DURATIONS.items() if name not in gaps}
    assert durations == {
        name: (pytest.approx(timing.seconds), timing.count)
        for name, timing in found.durations.items()
    }
    assert found.broken == ()
    assert (found.kind, found.is_empty) == (kind, False)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("triton", "llama.cpp")])
def test_misses_of_the_objective(kind):
    """Each engine has an edge somewhere between 5 s and 9 s: the same four are above it."""
    assert read(kind).over(5.0) == 4


@pytest.mark.parametrize("kind", ["triton", "llama.cpp"])
def test_without_buckets_no_misses_are_told(kind):
    assert read(kind).over(5.0) is None


@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_is_known_by_its_page(kind):
    assert recognised(page(kind)) == kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        pytest.param("", "", id="nothing"),
        pytest.param("# HELP vllm:num_requests_running x\n", "", id="only talked about"),
        pytest.param("xvllm:num_requests_running 1\n", "", id="a longer name"),
        pytest.param("vllm:num_requests_running_now 1\n", "", id="a longer name still"),
        pytest.param("# TYPE vllm:request_success_total counter\n", "vllm", id="not served yet"),
        pytest.param(
            "dynamo_frontend_requests_total 1\nvllm:num_requests_running 1\n",
            "vllm",
            id="the engine of a Dynamo worker",
        ),
    ],
)
def test_recognised(text, kind):
    assert recognised(text) == kind


def test_where_pages_are():
    """TensorRT-LLM's /metrics is JSON."""
    assert pages() == ("/metrics", "/prometheus/metrics")


@pytest.mark.parametrize("kind", KINDS)
def test_pages_are_in_the_format(kind):
    """The reference parser reads the fixtures too, and sees every name that was found."""
    names = {
        sample.name
        for family in text_string_to_metric_families(page(kind))
        for sample in family.samples
    }

    assert recognised(page(kind)) == kind
    assert names & set(shipped(kind).recognised_by)


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_says_where_its_names_are_from(kind):
    assert shipped(kind).source
