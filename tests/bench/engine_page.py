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

from gpuward.agent.engines.page_reader import PageReader
from gpuward.agent.engines.shipped import shipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from figures import Figure
    from timing import Effort

BUDGET_MS = 0.2


def measure(effort: Effort) -> Iterator[Figure]:
    text = page(requests=12_000)
    reader = PageReader("vllm", shipped("vllm"))
    calls = {
        "agent": lambda: reader.read(text),
        "reference": lambda: list(text_string_to_metric_families(text)),
    }
    taken = interleaved(calls, rounds=effort.times(60), times=3)
    faster = times_of(taken["agent"], taken["reference"])
    yield of_runs(
        "engine page, as the agent reads it, CPU",
        [1e3 * seconds for seconds in taken["agent"]],
        "ms",
        budget=BUDGET_MS,
        ratio=f"{faster:.0f} x faster than prometheus_client.parser",
    )
