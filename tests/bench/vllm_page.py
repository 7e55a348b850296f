"""A metrics page with the families, labels, buckets and ``_created`` gauges of a vLLM server.

Names and buckets: vllm/v1/metrics/loggers.py; one engine, one model, as a server of a release from
2026 shows when it has been used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LABELS = 'engine="0",model_name="meta-llama/Llama-3.1-70B-Instruct"'
SECONDS = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5),
    *(10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
NEXT_TOKEN = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5),
    *(10.0, 20.0, 40.0, 80.0),
)
TOKENS = tuple(float(m * 10**e) for e in range(5) for m in (1, 2, 5))
HISTOGRAMS = {
    "time_to_first_token_seconds": FIRST_TOKEN,
    "inter_token_latency_seconds": NEXT_TOKEN,
    "request_time_per_output_token_seconds": NEXT_TOKEN,
    "e2e_request_latency_seconds": SECONDS,
    "request_queue_time_seconds": SECONDS,
    "request_inference_time_seconds": SECONDS,
    "request_prefill_time_seconds": SECONDS,
    "request_decode_time_seconds": SECONDS,
    "request_prompt_tokens": TOKENS,
    "request_generation_tokens": TOKENS,
    "request_max_num_generation_tokens": TOKENS,
    "request_params_n": (1.0, 2.0, 5.0, 10.0, 20.0),
    "request_params_max_tokens": TOKENS,
    "iteration_tokens_total": (1.0, *(float(8 << shift) for shift in range(12))),
}
GAUGES = {"num_requests_running": 3.0, "num_requests_waiting": 3.0, "kv_cache_usage_perc": 0.5}
COUNTERS = (
    *("num_preemptions", "prompt_tokens", "generation_tokens", "prefix_cache_queries"),
    *("prefix_cache_hits", "external_prefix_cache_queries", "external_prefix_cache_hits"),
    *("mm_cache_queries", "mm_cache_hits"),
)
GOOD_REASONS = frozenset({"stop", "length"})
REASONS = ("stop", "length", "abort", "error", "repetition")
# What cache_config_info has as labels: the fields of CacheConfig in vllm/config/cache.py.
CACHE_SETTINGS = (
    *("block_size", "cache_dtype", "calculate_kv_scales", "cpu_kvcache_space_bytes"),
    *("cpu_offload_gb", "enable_prefix_caching", "gpu_memory_utilization", "is_attention_free"),
    *("kv_cache_memory_bytes", "kv_offloading_backend", "kv_offloading_size"),
    *("kv_sharing_fast_prefill", "mamba_block_size", "mamba_cache_dtype", "mamba_page_size_padded"),
    *("mamba_ssm_cache_dtype", "num_cpu_blocks", "num_gpu_blocks", "num_gpu_blocks_override"),
    *("prefix_caching_hash_algo", "sliding_window", "swap_space"),
)
PROCESS = (
    *("virtual_memory_bytes", "resident_memory_bytes", "start_time_seconds", "open_fds"),
    *("max_fds",),
)
HANDLERS = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/metrics")
HTTP_BUCKETS = (0.1, 0.5, 1.0)
STARTED_WALL_S = 1.8e9


def page(requests: int, *, in_trouble: bool = False) -> str:
    """Return the page of a server that has answered ``requests``, all of them within seconds.

    In trouble requests wait, are put back and fail, and take as long as there are buckets for.
    """
    return "\n".join((*_lines(requests, in_trouble=in_trouble), ""))


def _lines(requests: int, *, in_trouble: bool) -> Iterator[str]:
    troubled = requests if in_trouble else 0
    for generation in range(3):
        yield f'python_gc_objects_collected_total{{generation="{generation}"}} {requests}.0'
    for name in PROCESS:
        yield from _family(f"process_{name}", "gauge")
        value = STARTED_WALL_S if name == "start_time_seconds" else 1.7e10
        yield f"process_{name} {value!r}"
    for name, value in GAUGES.items():
        yield from _family(f"vllm:{name}", "gauge")
        is_calm = name == "num_requests_waiting" and not in_trouble
        yield f"vllm:{name}{{{LABELS}}} {0.0 if is_calm else value!r}"
    yield from _family("vllm:cache_config_info", "gauge")
    settings = ",".join(f'{name}="{place + 16}"' for place, name in enumerate(CACHE_SETTINGS))
    yield f'vllm:cache_config_info{{{settings},engine="0"}} 1.0'
    for name in COUNTERS:
        count = troubled if name == "num_preemptions" else requests
        yield from _counter(f"vllm:{name}", LABELS, count)
    for reason in REASONS:
        count = requests if reason in GOOD_REASONS else troubled
        labels = f'{LABELS},finished_reason="{reason}"'
        yield from _counter("vllm:request_success", labels, count)
    for name, bounds in HISTOGRAMS.items():
        yield from _histogram(f"vllm:{name}", LABELS, bounds, requests, in_trouble=in_trouble)
    for handler in HANDLERS:
        labels = f'handler="{handler}",method="POST"'
        name = "http_request_duration_seconds"
        yield from _histogram(name, labels, HTTP_BUCKETS, requests, in_trouble=in_trouble)


def _family(name: str, kind: str) -> tuple[str, str]:
    return f"# HELP {name} What vLLM says about {name}.", f"# TYPE {name} {kind}"


def _counter(name: str, labels: str, value: int) -> Iterator[str]:
    yield from _family(f"{name}_total", "counter")
    yield f"{name}_total{{{labels}}} {value}.0"
    yield from _family(f"{name}_created", "gauge")
    yield f"{name}_created{{{labels}}} {STARTED_WALL_S!r}"


def _histogram(
    name: str, labels: str, bounds: tuple[float, ...], count: int, *, in_trouble: bool
) -> Iterator[str]:
    yield from _family(name, "histogram")
    # Spread over all buckets, or over the lower third of them.
    used = len(bounds) + 1 if in_trouble else len(bounds) // 3 + 1
    for place, bound in enumerate((*bounds, "+Inf"), 1):
        at_most = count * min(place, used) // used
        yield f'{name}_bucket{{{labels},le="{bound}"}} {at_most}.0'
    yield f"{name}_count{{{labels}}} {count}.0"
    yield f"{name}_sum{{{labels}}} {count * 1.7!r}"
    yield from _family(f"{name}_created", "gauge")
    yield f"{name}_created{{{labels}}} {STARTED_WALL_S!r}"
