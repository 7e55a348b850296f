"""The engine simulator against real runs of vLLM: the same requests, and when they were answered.

300 requests of ShareGPT at ten a second, more than the cards can take, so that batching, queueing
and, on the small card, preemption all count.  The step laws were fitted to these runs.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from gpuward.simulator.llm.engine import LlmEngine
from gpuward.simulator.llm.platforms import PLATFORMS
from gpuward.simulator.llm.request import Request

RUNS = Path(__file__).parent / "llm_runs"
SHARES = (0.5, 0.9, 0.95, 0.99)


class Replay:
    """Requests that came when they came."""

    faster = longer = 1.0

    def __init__(self, rows):
        self._due = [(float(row["arrived"]), row) for row in rows]
        self.taken: list[Request] = []

    @property
    def next_s(self):
        return self._due[0][0] if self._due else math.inf

    def take(self):
        at_s, row = self._due.pop(0)
        number = len(self.taken)
        tokens = int(row["prompt_tokens"]), int(row["output_tokens"])
        self.taken.append(Request(number, at_s, *tokens, talk=number))
        return self.taken[-1]


def times(first_s, last_s, tokens):
    """Return time to first token, time for each other token, and time in all."""
    return first_s, (last_s - first_s) / max(1, tokens - 1), last_s


def percentiles(rows):
    columns = [sorted(column) for column in zip(*rows, strict=True)]
    return [column[int(share * (len(column) - 1))] for column in columns for share in SHARES]


@pytest.mark.parametrize(
    ("name", "worst", "is_tight"),
    [
        pytest.param("rtxpro6000-llama-8b", 0.02, False, id="one card, ample memory"),
        pytest.param("rtxpro6000x2-qwen3-32b", 0.04, False, id="larger model on two cards"),
        pytest.param("rtx4090-llama-8b", 0.09, True, id="KV cache too small"),
    ],
)
def test_percentiles_are_those_of_the_real_run(name, worst, is_tight):
    """P50, P90, P95 and P99 of each latency; on the small card hundreds are put back."""
    lines = (RUNS / f"{name}.csv").read_text().splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    replay = Replay(rows)
    engine = LlmEngine(PLATFORMS[name], replay, seed=1)

    engine.advance(3_000.0)

    real = percentiles(
        times(float(row["first_token"]), float(row["last_token"]), int(row["output_tokens"]))
        for row in rows
    )
    simulated = percentiles(
        times(
            request.first_token_s - request.arrived_s,
            request.last_token_s - request.arrived_s,
            request.output_tokens,
        )
        for request in replay.taken
    )
    errors = [mine / theirs - 1 for mine, theirs in zip(simulated, real, strict=True)]
    print(f"{name}: " + " ".join(f"{100 * error:+.1f} %" for error in errors))
    assert max(abs(error) for error in errors) < worst
    assert (engine.metrics.preemptions > 100) == is_tight
