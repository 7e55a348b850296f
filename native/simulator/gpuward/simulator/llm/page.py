"""The page of metrics of a vLLM 0.33 server: names, labels, buckets, and its oddities.

``*_created`` gauges stand beside every counter and histogram, ``iteration_tokens_total`` is a
histogram in spite of its name, counters are written as floats, and the settings of the cache are
labels of a gauge that is always 1.  Names: ``vllm/v1/metrics/loggers.py``; form: the Prometheus
text format, version 0.0.4, as ``prometheus_client`` writes it.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from gpuward.simulator.llm.platforms import BLOCK_TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.simulator.llm.metrics import EngineMetrics, Histogram


def render(metrics: EngineMetrics) -> str:
    """Return the page."""
    return "\n".join((*_lines(metrics), ""))


def _lines(metrics: EngineMetrics) -> Iterator[str]:
    label, created = f'engine="0",model_name="{metrics.model}"', metrics.started_wall_s
    yield from _family("process_start_time_seconds", "gauge", "Start time of the process.")
    yield f"process_start_time_seconds {created!r}"
    for name, meaning, value in _gauges(metrics):
        yield from _family(f"vllm:{name}", "gauge", meaning)
        yield f"vllm:{name}{{{label}}} {float(value)!r}"
    if metrics.kv_blocks:
        yield from _family("vllm:cache_config_info", "gauge", "Settings of the cache.")
        yield f"vllm:cache_config_info{{{_settings(metrics)}}} 1.0"
    for name, meaning, count in _counters(metrics):
        yield from _family(f"vllm:{name}_total", "counter", meaning)
        yield f"vllm:{name}_total{{{label}}} {float(count)!r}"
        yield from _created(f"vllm:{name}", meaning, (label,), created)
    yield from _finished(metrics, label, created)
    for name, meaning, histogram in _histograms(metrics):
        yield from _histogram(f"vllm:{name}", meaning, label, histogram)
        yield from _created(f"vllm:{name}", meaning, (label,), created)


def _gauges(metrics: EngineMetrics) -> Iterator[tuple[str, str, float]]:
    yield "num_requests_running", "Requests in model execution batches.", metrics.running
    yield "num_requests_waiting", "Requests waiting to be processed.", metrics.waiting
    if metrics.kv_blocks:
        yield "kv_cache_usage_perc", "KV cache in use; 1 is all of it.", metrics.kv_cache_usage


def _settings(metrics: EngineMetrics) -> str:
    settings = {
        "block_size": BLOCK_TOKENS,
        "cache_dtype": "auto",
        "enable_prefix_caching": True,
        "engine": 0,
        "gpu_memory_utilization": 0.9,
        "num_gpu_blocks": metrics.kv_blocks,
        "prefix_caching_hash_algo": "sha256",
    }
    return ",".join(f'{name}="{value}"' for name, value in settings.items())


def _counters(metrics: EngineMetrics) -> Iterator[tuple[str, str, int]]:
    if metrics.kv_blocks:
        yield "num_preemptions", "Requests put back for lack of room.", metrics.preemptions
        queries, hits = metrics.prefix_cache_queries, metrics.prefix_cache_hits
        yield "prefix_cache_queries", "Tokens looked for in the prefix cache.", queries
        yield "prefix_cache_hits", "Tokens found in the prefix cache.", hits
    yield "prompt_tokens", "Tokens of prompts processed.", metrics.prompt_tokens
    yield "generation_tokens", "Tokens generated.", metrics.generation_tokens


def _finished(metrics: EngineMetrics, label: str, created: float) -> Iterator[str]:
    name, meaning = "vllm:request_success", "Requests finished, by how."
    labels = [f'{label},finished_reason="{reason}"' for reason in metrics.finished]
    yield from _family(f"{name}_total", "counter", meaning)
    for each, count in zip(labels, metrics.finished.values(), strict=True):
        yield f"{name}_total{{{each}}} {float(count)!r}"
    yield from _created(name, meaning, labels, created)


def _histograms(metrics: EngineMetrics) -> Iterator[tuple[str, str, Histogram]]:
    """Yield every histogram that the engine has observed something for, or ever will."""
    yield "time_to_first_token_seconds", "Time to first token.", metrics.first_token
    yield "inter_token_latency_seconds", "Time between two tokens.", metrics.inter_token
    meaning = "Decoding time of a request by its tokens."
    yield "request_time_per_output_token_seconds", meaning, metrics.time_per_token
    yield "e2e_request_latency_seconds", "Latency of a request.", metrics.e2e
    yield "request_queue_time_seconds", "Time in the state WAITING.", metrics.queue
    yield "request_inference_time_seconds", "Time in the state RUNNING.", metrics.inference
    yield "request_prefill_time_seconds", "Time in the state PREFILL.", metrics.prefill
    yield "request_decode_time_seconds", "Time in the state DECODE.", metrics.decode
    yield "request_prompt_tokens", "Tokens of a prompt.", metrics.prompt_lengths
    yield "request_generation_tokens", "Tokens generated for a request.", metrics.output_lengths
    yield "iteration_tokens_total", "Tokens of a step of the engine.", metrics.step_tokens


def _family(name: str, kind: str, meaning: str) -> tuple[str, str]:
    return f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"


def _created(
    name: str, meaning: str, labels: tuple[str, ...] | list[str], at_s: float
) -> Iterator[str]:
    yield from _family(f"{name}_created", "gauge", meaning)
    yield from (f"{name}_created{{{label}}} {at_s!r}" for label in labels)


def _histogram(name: str, meaning: str, label: str, histogram: Histogram) -> Iterator[str]:
    yield from _family(name, "histogram", meaning)
    bounds = (*(str(bound) for bound in histogram.bounds), "+Inf")
    cumulative = list(accumulate(histogram.counts))
    for bound, count in zip(bounds, cumulative, strict=True):
        yield f'{name}_bucket{{{label},le="{bound}"}} {float(count)!r}'
    yield f"{name}_count{{{label}}} {float(cumulative[-1])!r}"
    yield f"{name}_sum{{{label}}} {histogram.sum!r}"
