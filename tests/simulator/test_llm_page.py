"""The simulated vLLM's page: in the format, with vLLM's oddities, and as the agent reads it."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gpuward.agent.engines.engine_map import COUNTERS
from gpuward.agent.engines.page_reader import PageReader
from gpuward.agent.engines.shipped import shipped
from gpuward.simulator.llm.canonical import signals
from gpuward.simulator.llm.engine import LlmEngine
from gpuward.simulator.llm.faults import Fault, Trouble
from gpuward.simulator.llm.platforms import PLATFORMS
from gpuward.simulator.llm.traffic import Demand, Traffic

OBJECTIVE_S = 5.0
HISTOGRAMS = {
    "vllm:time_to_first_token_seconds": ("0.001", "2560.0"),
    "vllm:inter_token_latency_seconds": ("0.01", "80.0"),
    "vllm:request_time_per_output_token_seconds": ("0.01", "80.0"),
    "vllm:e2e_request_latency_seconds": ("0.3", "7680.0"),
    "vllm:request_queue_time_seconds": ("0.3", "7680.0"),
    "vllm:request_inference_time_seconds": ("0.3", "7680.0"),
    "vllm:request_prefill_time_seconds": ("0.3", "7680.0"),
    "vllm:request_decode_time_seconds": ("0.3", "7680.0"),
    "vllm:request_prompt_tokens": ("1.0", "50000.0"),
    "vllm:request_generation_tokens": ("1.0", "50000.0"),
    # A histogram, in spite of its name.
    "vllm:iteration_tokens_total": ("1.0", "16384.0"),
}


@pytest.fixture(scope="module")
def engine():
    """An engine that has failed, preempted, cached and kept people waiting."""
    traffic = Traffic(Demand(6.0), 1)
    faults = [Fault(Trouble.KV_SHORTAGE, 0.04), Fault(Trouble.FAILURES, 0.05)]
    engine = LlmEngine(
        PLATFORMS["h100-llama-8b"], traffic, faults=faults, seed=1, begins_wall_s=1.8e9
    )
    engine.advance(900.0)
    return engine


@pytest.fixture(scope="module")
def families(engine):
    return {family.name: family for family in text_string_to_metric_families(engine.page())}


def test_histograms_have_vllms_buckets(engine, families):
    """Cumulative, up to +Inf, which is the count; first and last bound are those of vLLM 0.33."""
    assert engine.metrics.preemptions > 0
    found = {name: family for name, family in families.items() if family.type == "histogram"}
    assert HISTOGRAMS.keys() == found.keys()
    for name, (first, last) in HISTOGRAMS.items():
        buckets = [one for one in found[name].samples if one.name == f"{name}_bucket"]
        values = [bucket.value for bucket in buckets]
        edges = [bucket.labels["le"] for bucket in buckets]
        assert (first, last, "+Inf") == (edges[0], edges[-2], edges[-1])
        assert sorted(values) == values
        count = next(one.value for one in found[name].samples if one.name == f"{name}_count")
        assert count == values[-1] > 0


def test_each_counter_has_its_created_gauge(families):
    """As prometheus_client writes it: with the start of the process as its value."""
    created = {
        sample.name: sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name.endswith("_created")
    }

    assert {1.8e9 - 60.0} == set(created.values())
    assert {f"{name}_created" for name in HISTOGRAMS} < created.keys()
    assert "vllm:request_success_created" in created


def test_requests_are_counted_by_how_they_ended(families):
    finished = {
        sample.labels["finished_reason"]: sample.value
        for sample in families["vllm:request_success"].samples
        if sample.name == "vllm:request_success_total"
    }

    assert {"stop", "length", "abort", "error", "repetition"} == finished.keys()
    assert finished["error"] > 0
    assert finished["stop"] > finished["length"] > 0


def test_the_settings_of_the_cache_are_labels(families):
    (sample,) = families["vllm:cache_config_info"].samples

    assert ("27000", "16") == (sample.labels["num_gpu_blocks"], sample.labels["block_size"])


def test_the_agent_reads_off_the_page_what_the_engine_counts(engine):
    """Benchmarks take the counters directly: here they are those of the text, all of them."""
    reading = PageReader("vllm", shipped("vllm")).read(engine.page())
    read = {f"replica_{name}": value for name, value in reading.figures.items()}
    for name, timing in reading.durations.items():
        total, count = COUNTERS[name]
        read |= {f"replica_{total}": timing.seconds, f"replica_{count}": timing.count}
    read["replica_requests_over_objective_total"] = reading.over(OBJECTIVE_S)

    counted = signals(engine, OBJECTIVE_S)
    assert 1.0 == counted.pop("replica_ready")
    assert pytest.approx(counted) == read
    assert () == tuple(reading.broken)
    assert reading.kv_cache is not None
