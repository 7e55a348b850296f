"""The engine's own metrics, named and shaped as vLLM's ``/metrics`` names and shapes them.

Names and buckets: ``vllm/v1/metrics/loggers.py``.  As there, ``request_success_total`` counts every
finished request, the failed ones too; the label says how it finished.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

E2E_BUCKETS = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
FIRST_TOKEN_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5),
    *(10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)


class FinishedReason(StrEnum):
    """How a request ended."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


class Histogram:
    """Counts of observations by upper bound, the last without bound."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass(slots=True)
class EngineMetrics:
    """What one engine process counts from its start."""

    model: str
    started_wall_s: float
    finished: dict[FinishedReason, int] = field(
        default_factory=lambda: dict.fromkeys(FinishedReason, 0)
    )
    prompt_tokens: int = 0
    generation_tokens: int = 0
    waiting: int = 0
    running: int = 0
    e2e: Histogram = field(default_factory=lambda: Histogram(E2E_BUCKETS))
    first_token: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN_BUCKETS))

    def render(self) -> str:
        """Return the Prometheus text format, version 0.0.4."""
        return "\n".join((*self._lines(), ""))

    def _lines(self) -> Iterator[str]:
        label = f'engine="0",model_name="{self.model}"'
        yield from _family(
            "vllm:num_requests_running", "gauge", "Requests in model execution batches."
        )
        yield f"vllm:num_requests_running{{{label}}} {self.running}"
        yield from _family(
            "vllm:num_requests_waiting", "gauge", "Requests waiting to be processed."
        )
        yield f"vllm:num_requests_waiting{{{label}}} {self.waiting}"
        yield from _family("vllm:prompt_tokens_total", "counter", "Prefill tokens processed.")
        yield f"vllm:prompt_tokens_total{{{label}}} {self.prompt_tokens}"
        yield from _family("vllm:generation_tokens_total", "counter", "Tokens generated.")
        yield f"vllm:generation_tokens_total{{{label}}} {self.generation_tokens}"
        yield from _family("vllm:request_success_total", "counter", "Requests finished.")
        for reason, count in self.finished.items():
            yield f'vllm:request_success_total{{{label},finished_reason="{reason}"}} {count}'
        yield from _histogram(
            "vllm:time_to_first_token_seconds", "Time to first token.", label, self.first_token
        )
        yield from _histogram(
            "vllm:e2e_request_latency_seconds", "Latency of a request.", label, self.e2e
        )
        yield from _family(
            "process_start_time_seconds", "gauge", "Start time of the process since the epoch."
        )
        yield f"process_start_time_seconds {self.started_wall_s}"


def _family(name: str, kind: str, meaning: str) -> tuple[str, str]:
    return f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"


def _histogram(name: str, meaning: str, label: str, histogram: Histogram) -> Iterator[str]:
    yield from _family(name, "histogram", meaning)
    bounds = (*(str(bound) for bound in histogram.bounds), "+Inf")
    cumulative = list(accumulate(histogram.counts))
    for bound, count in zip(bounds, cumulative, strict=True):
        yield f'{name}_bucket{{{label},le="{bound}"}} {count}'
    yield f"{name}_sum{{{label}}} {histogram.sum}"
    yield f"{name}_count{{{label}}} {cumulative[-1]}"
