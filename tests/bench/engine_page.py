"""What reading an engine's metrics page costs, against the reference parser on the same page.

The page has the families, labels and buckets of a vLLM server: 374 samples in 52 kB.  The budget
is for what the agent does every second: the families that carry traffic, series seen before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from figures import of_runs
from prometheus_client.parser import text_string_to_metric_families
from timing import interleaved, times_of
from vllm_page import page

from gpuward.agent import engine_vllm
from gpuward.agent.openmetrics import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from figures import Figure
    from timing import Effort

BUDGET_MS = 0.2
OBJECTIVE_S = 5.0


def measure(effort: Effort) -> Iterator[Figure]:
    text = page(requests=12_000)
    calls = {
        "agent": lambda: engine_vllm.read(parse(text, prefixes=engine_vllm.PREFIXES), OBJECTIVE_S),
        "all": lambda: parse(text),
        "reference": lambda: list(text_string_to_metric_families(text)),
    }
    taken = interleaved(calls, rounds=effort.times(60), times=3)
    faster = {name: times_of(taken[name], taken["reference"]) for name in ("agent", "all")}
    for name, what, budget in (
        ("agent", "engine page, as the agent reads it", BUDGET_MS),
        ("all", "engine page, every sample", None),
    ):
        yield of_runs(
            f"{what}, CPU",
            [1e3 * seconds for seconds in taken[name]],
            "ms",
            budget=budget,
            ratio=f"{faster[name]:.0f} x faster than prometheus_client.parser",
        )
