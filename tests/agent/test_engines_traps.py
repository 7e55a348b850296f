"""What is easily got wrong in engines' pages, each with the page that shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuward.agent.engines.engine_map import EngineMap
from gpuward.agent.engines.page_reader import PageReader
from gpuward.agent.engines.percentile import percentile
from gpuward.agent.engines.reading import RankQueue
from gpuward.agent.engines.shipped import shipped
from gpuward.agent.openmetrics import ParseError
from gpuward.daemon.config import parse

FOLDER = Path(__file__).parents[1] / "fixtures" / "engines"


def read(kind, text, model=""):
    return PageReader(kind, shipped(kind), model).read(text)


def figures(kind, *lines):
    return read(kind, "\n".join((*lines, ""))).figures


def of_map(toml, *lines):
    return PageReader("openmetrics", parse(toml, EngineMap, name="map")).read(
        "\n".join((*lines, ""))
    )


def test_a_histogram_is_no_counter_though_its_name_ends_so():
    """vllm:iteration_tokens_total: nothing on the page has that very name."""
    found = of_map(
        '[[figures.tokens_total]]\nnames = ["vllm:iteration_tokens_total"]',
        *(FOLDER / "vllm.txt").read_text().splitlines(),
    )

    assert found.is_empty
    assert found.missing == ("tokens_total",)


def test_a_time_of_creation_is_no_count():
    """prometheus_client writes a gauge x_created beside each counter."""
    found = figures(
        "vllm",
        'vllm:num_preemptions_total{engine="0"} 2',
        'vllm:num_preemptions_created{engine="0"} 1.8e9',
    )

    assert found == {"preemptions_total": 2.0}


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        pytest.param(['vllm:gpu_cache_usage_perc{engine="0"} 0.3'], 0.3, id="old name"),
        pytest.param(
            ["vllm:gpu_cache_usage_perc 0.3", "vllm:kv_cache_usage_perc 0.4"], 0.4, id="both"
        ),
        pytest.param(["vllm:cpu_cache_usage_perc 0.3"], None, id="neither is absent, not 0"),
    ],
)
def test_names_drift(lines, found):
    """Both were there for some releases: the newest counts, once."""
    assert figures("vllm", *lines).get("kv_cache_usage_ratio") == found


def test_a_full_cache_is_no_error():
    assert figures("vllm", "vllm:kv_cache_usage_perc 1.0") == {"kv_cache_usage_ratio": 1.0}


def test_a_count_that_is_not_written_is_that_of_all_buckets():
    name = "vllm:e2e_request_latency_seconds"
    found = read("vllm", f'{name}_bucket{{le="1"}} 3\n{name}_bucket{{le="+Inf"}} 5\n{name}_sum 4\n')

    assert (found.durations["latency"].seconds, found.durations["latency"].count) == (4.0, 5.0)


def test_an_old_name_of_a_duration():
    found = read(
        "vllm",
        "vllm:time_per_output_token_seconds_sum 2.0\n"
        "vllm:time_per_output_token_seconds_count 100.0\n",
    )

    timing = found.durations["inter_token"]
    assert (timing.seconds, timing.count, timing.buckets) == (2.0, 100.0, None)


@pytest.mark.parametrize(
    ("ranks", "waiting"),
    [
        pytest.param([("", 0, 0, 4)], 4, id="one"),
        pytest.param([("", 0, 0, 4), ("", 1, 0, 3), ("", 0, 1, 2)], 4, id="tensor and pipeline"),
        pytest.param([("0", 0, 0, 4), ("1", 1, 0, 3)], 7, id="data"),
        pytest.param([("0", 0, 0, 4), ("0", 1, 0, 4), ("1", 2, 0, 3)], 7, id="data and tensor"),
    ],
)
def test_ranks_that_are_copies_are_not_added(ranks, waiting):
    """Those of data parallelism are not copies: each has its own requests."""
    found = figures(
        "sglang",
        *(
            f'sglang:num_queue_reqs{{dp_rank="{dp}",tp_rank="{tp}",pp_rank="{pp}"}} {value}'
            for dp, tp, pp, value in ranks
        ),
    )

    assert found == {"requests_waiting": waiting}


def test_ranks_of_data_parallelism():
    """vLLM's label engine: requests and buckets are summed, the fuller cache counts."""
    found = read(
        "vllm",
        'vllm:kv_cache_usage_perc{engine="0"} 0.2\n'
        'vllm:kv_cache_usage_perc{engine="1"} 0.9\n'
        'vllm:num_requests_waiting{engine="0"} 1\n'
        'vllm:num_requests_waiting{engine="1"} 2\n'
        'vllm:e2e_request_latency_seconds_bucket{engine="0",le="5.0"} 6\n'
        'vllm:e2e_request_latency_seconds_bucket{engine="0",le="+Inf"} 7\n'
        'vllm:e2e_request_latency_seconds_bucket{engine="1",le="5.0"} 1\n'
        'vllm:e2e_request_latency_seconds_bucket{engine="1",le="+Inf"} 4\n',
    )

    assert found.figures == {"kv_cache_usage_ratio": 0.9, "requests_waiting": 3.0}
    assert found.durations["latency"].buckets.counts == (7.0, 11.0)
    assert found.over(5.0) == 4.0


@pytest.mark.parametrize(
    ("kind", "lines", "longest"),
    [
        pytest.param(
            "vllm",
            [
                'vllm:num_requests_waiting{engine="0"} 0',
                'vllm:num_requests_waiting{engine="1"} 40',
                'vllm:num_requests_running{engine="0"} 90',
                'vllm:num_requests_running{engine="1"} 20',
            ],
            RankQueue(40.0, 20.0),
            id="vLLM",
        ),
        pytest.param(
            "sglang",
            [
                'sglang:num_queue_reqs{dp_rank="0",tp_rank="0"} 7',
                'sglang:num_queue_reqs{dp_rank="1",tp_rank="1"} 5',
                'sglang:num_queue_reqs{dp_rank="1",tp_rank="2"} 5',
                'sglang:num_running_reqs{dp_rank="0",tp_rank="0"} 3',
                'sglang:num_running_reqs{dp_rank="1",tp_rank="1"} 9',
                'sglang:num_running_reqs{dp_rank="1",tp_rank="2"} 9',
            ],
            RankQueue(7.0, 3.0),
            id="SGLang, whose ranks of tensors are copies",
        ),
        pytest.param(
            "vllm",
            ['vllm:num_requests_waiting{engine="0"} 4', 'vllm:num_requests_running{engine="0"} 9'],
            None,
            id="a single rank is the server",
        ),
        pytest.param(
            "vllm",
            [
                'vllm:num_requests_waiting{engine="0"} 4',
                'vllm:num_requests_waiting{engine="1"} NaN',
                'vllm:num_requests_running{engine="0"} 9',
                'vllm:num_requests_running{engine="1"} 9',
            ],
            None,
            id="one is broken",
        ),
    ],
)
def test_the_rank_with_the_longest_queue(kind, lines, longest):
    """A sum over ranks hides that one of them is full."""
    assert read(kind, "\n".join(lines) + "\n").longest_queue == longest


def test_ranks_with_other_buckets():
    """Only edges that all ranks have can be summed."""
    name = "vllm:e2e_request_latency_seconds_bucket"
    found = read(
        "vllm",
        f'{name}{{engine="0",le="1"}} 1\n{name}{{engine="0",le="5"}} 2\n'
        f'{name}{{engine="0",le="+Inf"}} 3\n'
        f'{name}{{engine="1",le="5"}} 4\n{name}{{engine="1",le="+Inf"}} 9\n',
    )

    assert found.durations["latency"].buckets.edges == (5.0, float("inf"))
    assert found.durations["latency"].buckets.counts == (6.0, 12.0)


def test_means_of_a_life_are_not_read():
    """llama.cpp's speeds; the mean of any time comes from the sums behind them."""
    text = (FOLDER / "llama.cpp.txt").read_text()
    changed = text.replace("tokens_seconds 50", "tokens_seconds 1").replace(
        "tokens_seconds 5154.64", "tokens_seconds NaN"
    )

    assert changed.count("tokens_seconds 1\n") == changed.count("tokens_seconds NaN\n") == 1
    assert read("llama.cpp", changed) == read("llama.cpp", text)


def test_a_percentage_that_is_a_fraction():
    """Dynamo's; a share above 1 is no share, whatever it is called."""
    name = "dynamo_component_gpu_cache_usage_percent"

    assert figures("dynamo", f"{name} 0.55") == {"kv_cache_usage_ratio": 0.55}
    found = read("dynamo", f"{name} 55\n")
    assert found.figures == {}
    assert found.broken == (f"{name} is 55, above 1",)


@pytest.mark.parametrize("suffix", ["_bucket", ""])
def test_buckets_under_the_bare_name(suffix):
    """Triton's documentation prints its histogram so, in milliseconds."""
    name = "nv_inference_first_response_histogram_ms"
    found = read(
        "triton",
        f"{name}_count 37\n{name}_sum 10771\n"
        f'{name}{suffix}{{le="100"}} 8\n{name}{suffix}{{le="500"}} 30\n'
        f'{name}{suffix}{{le="+Inf"}} 37\n',
    )

    timing = found.durations["first_token"]
    assert (timing.seconds, timing.count) == (pytest.approx(10.771), 37.0)
    assert timing.buckets.edges == (0.1, 0.5, float("inf"))


def test_an_ensemble_counts_its_parts_again():
    """So a service is one model of the server; without a choice all are added."""
    text = (
        'nv_inference_request_success{model="ensemble",version="1"} 10\n'
        'nv_inference_request_success{model="preprocessing",version="1"} 10\n'
    )

    assert read("triton", text).figures["requests_total"] == 20.0
    assert read("triton", text, model="ensemble").figures["requests_total"] == 10.0


def test_lines_that_are_not_needed_may_be_anything():
    """TGI's tgi_batch_next_size has 1,024 buckets; none of them is looked at."""
    text = (FOLDER / "tgi.txt").read_text()
    broken = text.replace("tgi_batch_next_size_bucket{", "tgi_batch_next_size_bucket{{{")

    assert broken.count("{{{") == 1_025
    assert read("tgi", broken) == read("tgi", text)


@pytest.mark.parametrize(
    ("lines", "failed"),
    [
        pytest.param(["tgi_request_count 5"], 0.0, id="none yet"),
        pytest.param(
            ["tgi_request_count 5", 'tgi_request_failure{err="generation"} 2'], 2.0, id="2"
        ),
        pytest.param(
            ["tgi_request_count 5", 'tgi_request_failure{err="validation"} 2'], 0.0, id="clients'"
        ),
        pytest.param(["tgi_queue_size 0"], None, id="not counted at all"),
    ],
)
def test_a_counter_that_comes_with_its_first_event(lines, failed):
    """Beside the counter of all requests its absence is 0; without, it is unknown."""
    assert figures("tgi", *lines).get("requests_failed_total") == failed


SUCCESS = 'trtllm_request_success_total{finished_reason="stop"}'


@pytest.mark.parametrize(
    ("lines", "requests", "failed"),
    [
        pytest.param(["# TYPE trtllm_request_success_total counter"], None, None, id="declared"),
        pytest.param([f"{SUCCESS} 4"], 4.0, 0.0, id="no error yet"),
        pytest.param(['trtllm_request_error_total{http_code="500"} 3'], 3.0, 3.0, id="errors only"),
        pytest.param(
            [f"{SUCCESS} 4", 'trtllm_request_error_total{http_code="500"} 3'], 7.0, 3.0, id="both"
        ),
        pytest.param(
            [f"{SUCCESS} 4", 'trtllm_request_error_total{http_code="400"} 3'],
            4.0,
            0.0,
            id="clients' errors",
        ),
    ],
)
def test_a_counter_that_is_declared_may_never_count(lines, requests, failed):
    """TensorRT-LLM declares counters of requests also when it was not asked to count them."""
    found = figures("trtllm", *lines)

    assert found.get("requests_total") == requests
    assert found.get("requests_failed_total") == failed


def test_a_percentile_beyond_the_last_edge_is_more_than_it():
    """SGLang's documented page: 77 % of the times to the first token lie in +Inf."""
    edges = (0.1, 1.0, 30.0, float("inf"))

    found = percentile(edges, (100.0, 1_500.0, 2_300.0, 10_000.0))

    assert (found.seconds, found.is_beyond) == (30.0, True)


def test_a_series_that_is_there_twice():
    """Its labels may be in another order: which of both is true, nobody knows."""
    with pytest.raises(ParseError, match="vllm:num_requests_waiting is there twice"):
        read(
            "vllm",
            'vllm:num_requests_waiting{engine="0",model_name="m"} 1\n'
            'vllm:num_requests_waiting{model_name="m",engine="0"} 2\n',
        )


@pytest.mark.parametrize(
    "counts", [(3, 2, 4), (-1, 2, 3), (1, 2, float("nan")), (1, 2, float("inf"))]
)
def test_buckets_that_cannot_be(counts):
    """A histogram's buckets only rise; else it has none, and that is said."""
    name = "vllm:e2e_request_latency_seconds"
    lines = [f'{name}_bucket{{le="{e}"}} {n}' for e, n in zip((1, 5, "+Inf"), counts, strict=True)]
    found = read("vllm", "\n".join((*lines, f"{name}_sum 9", f"{name}_count 4", "")))

    assert found.durations["latency"].buckets is None
    assert (found.durations["latency"].seconds, found.durations["latency"].count) == (9.0, 4.0)
    assert found.broken == (f"{name} has buckets that fall",)


def test_a_part_that_falls_is_not_hidden_by_the_others():
    """5 and -2 are not 3 requests."""
    found = read(
        "vllm",
        'vllm:generation_tokens_total{engine="0"} 5\nvllm:generation_tokens_total{engine="1"} -2\n',
    )

    assert found.figures == {}
    assert found.broken == ("vllm:generation_tokens_total is -2",)


def test_another_page_of_the_same_engine():
    """After an upgrade the names are others: what was first found out does not stick."""
    reader = PageReader("vllm", shipped("vllm"))
    old = reader.read("vllm:gpu_cache_usage_perc 0.3\nvllm:num_requests_running 1\n")
    new = reader.read("vllm:num_requests_running 2\nvllm:kv_cache_usage_perc 0.4\n")

    assert old.figures == {"kv_cache_usage_ratio": 0.3, "requests_running": 1.0}
    assert new.figures == {"kv_cache_usage_ratio": 0.4, "requests_running": 2.0}
