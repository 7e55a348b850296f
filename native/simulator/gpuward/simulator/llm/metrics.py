"""What an engine counts from its start: vLLM's metrics, as numbers.

Names and buckets: ``vllm/v1/metrics/loggers.py`` of 0.33; ``page`` writes them as text.  As there,
``request_success`` counts every finished request, the failed ones too; the label says how.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from functools import partial

from gpuward.simulator.llm.request import FinishedReason

LATENCY = (
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
TOKENS = tuple(float(digit * 10**power) for power in range(5) for digit in (1, 2, 5))
STEP_TOKENS = (1.0, *(float(8 << shift) for shift in range(12)))


class Histogram:
    """Counts of observations by upper bound, the last without bound."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    @property
    def count(self) -> int:
        return sum(self.counts)

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times


@dataclass(slots=True)
class EngineMetrics:
    """Counters of one engine process; ``kv_blocks``: 0 where it keeps no account of a KV cache.

    Gauges are those of the last step, as an engine reports them.
    """

    model: str
    started_wall_s: float
    kv_blocks: int = 0
    finished: dict[FinishedReason, int] = field(
        default_factory=lambda: dict.fromkeys(FinishedReason, 0)
    )
    prompt_tokens: int = 0
    generation_tokens: int = 0
    preemptions: int = 0
    prefix_cache_queries: int = 0
    prefix_cache_hits: int = 0
    waiting: int = 0
    running: int = 0
    kv_cache_usage: float = 0.0
    e2e: Histogram = field(default_factory=partial(Histogram, LATENCY))
    first_token: Histogram = field(default_factory=partial(Histogram, FIRST_TOKEN))
    inter_token: Histogram = field(default_factory=partial(Histogram, NEXT_TOKEN))
    time_per_token: Histogram = field(default_factory=partial(Histogram, NEXT_TOKEN))
    queue: Histogram = field(default_factory=partial(Histogram, LATENCY))
    inference: Histogram = field(default_factory=partial(Histogram, LATENCY))
    prefill: Histogram = field(default_factory=partial(Histogram, LATENCY))
    decode: Histogram = field(default_factory=partial(Histogram, LATENCY))
    prompt_lengths: Histogram = field(default_factory=partial(Histogram, TOKENS))
    output_lengths: Histogram = field(default_factory=partial(Histogram, TOKENS))
    step_tokens: Histogram = field(default_factory=partial(Histogram, STEP_TOKENS))
