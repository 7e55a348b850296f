"""The same counters in the agent's words, without the text between: for what lives many hours.

Names are the agent's signals of a replica (``gpuward.agent.signals_latency``).  Rendering a page
and parsing it each second would take longer than the engine does.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from gpuward.simulator.llm.request import FinishedReason

if TYPE_CHECKING:
    from gpuward.simulator.llm.engine import LlmEngine
    from gpuward.simulator.llm.metrics import Histogram


def signals(engine: LlmEngine, objective_s: float) -> dict[str, float]:
    """Return what a scrape of ``engine`` tells now, by name of the signal."""
    metrics = engine.metrics
    found = {
        "replica_ready": float(engine.is_ready),
        "replica_requests_total": float(sum(metrics.finished.values())),
        "replica_requests_failed_total": float(metrics.finished[FinishedReason.ERROR]),
        "replica_requests_over_objective_total": float(_above(metrics.e2e, objective_s)),
        "replica_requests_waiting": float(metrics.waiting),
        "replica_requests_running": float(metrics.running),
        "replica_kv_cache_usage_ratio": metrics.kv_cache_usage,
        "replica_preemptions_total": float(metrics.preemptions),
        "replica_tokens_total": float(metrics.generation_tokens),
        "replica_prompt_tokens_total": float(metrics.prompt_tokens),
        "replica_cached_prompt_tokens_total": float(metrics.prefix_cache_hits),
    }
    for total, count, histogram in (
        ("replica_latency_seconds_total", "replica_latencies_total", metrics.e2e),
        ("replica_first_token_seconds_total", "replica_first_tokens_total", metrics.first_token),
        ("replica_inter_token_seconds_total", "replica_inter_tokens_total", metrics.inter_token),
        ("replica_queue_seconds_total", "replica_queued_total", metrics.queue),
        ("replica_prefill_seconds_total", "replica_prefills_total", metrics.prefill),
        ("replica_decode_seconds_total", "replica_decodes_total", metrics.decode),
    ):
        found[total], found[count] = histogram.sum, float(histogram.count)
    found["replica_prompts_total"] = found["replica_first_tokens_total"]
    return found


def _above(histogram: Histogram, objective_s: float) -> int:
    """Return how many were above the bucket edge at or next above ``objective_s``."""
    return sum(histogram.counts[bisect_left(histogram.bounds, objective_s) + 1 :])
