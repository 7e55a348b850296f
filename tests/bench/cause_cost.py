"""What it costs to look for causes: 8 GPUs, 8 replicas, with nothing wrong and with all of them.

The detector is asked every five seconds.  While nothing is wrong it only asks what opens a case;
what it costs beyond that is paid by a replica in trouble.  Each turn has a window of its own, as
the judge's has: nothing is remembered from the one before.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from diagnosis_life import Life
from diagnosis_scenarios import plan_of
from figures import of_runs, table
from timing import Effort, interleaved

from gpuward.agent.detectors import latency_cause
from gpuward.agent.model import Batch, Sample, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from figures import Figure

REPLICAS = 8
FULL_S = 310
EVERY_S = 5.0
# A tenth of the agent's one per cent of a core.
BUDGET_RATIO = 0.001


def measure(effort: Effort) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        life = Life(plan_of(("healthy",), 1, 0), Path(folder), REPLICAS)
        for second in range(1, FULL_S + 1):
            life.second(second)
        calm_ms = list(_turns_ms(life, effort))
        yield of_runs("causes looked for, nothing wrong, CPU", calm_ms, "ms")
        share = statistics.median(calm_ms) / 1e3 / EVERY_S
        yield of_runs("the same, share of a core", [share], "ratio", budget=BUDGET_RATIO)
        _narrow_the_links(life)
        found = len(list(latency_cause.detect(life.judge.readings.window(float(FULL_S)))))
        if found != REPLICAS:
            raise RuntimeError(f"{found} of {REPLICAS} replicas have a verdict")
        ill_ms = list(_turns_ms(life, effort))
        yield of_runs(f"causes looked for, {REPLICAS} verdicts, CPU", ill_ms, "ms")
        a_verdict = (statistics.median(ill_ms) - statistics.median(calm_ms)) / REPLICAS
        yield of_runs("a verdict, CPU", [a_verdict], "ms")


def _turns_ms(life: Life, effort: Effort) -> Iterator[float]:
    """Yield what a turn takes; the detector's alone, whatever else the judge asks of a window."""

    def turn() -> None:
        list(latency_cause.detect(life.judge.readings.window(float(FULL_S))))

    taken = interleaved({"turn": turn}, rounds=effort.times(60))
    yield from (1e3 * seconds for seconds in taken["turn"])


def _narrow_the_links(life: Life) -> None:
    """Let every GPU have half of its PCIe lanes."""
    at_s = float(FULL_S)
    narrow = tuple(
        Sample(SeriesKey("gpu_pcie_link_width", gpu=gpu.uuid), at_s, 8.0)
        for gpu in life.judge.readings.window(at_s).gpus
    )
    life.judge.take("link", Batch(samples=narrow))


if __name__ == "__main__":
    print(table(list(measure(Effort(quick="--quick" in sys.argv)))))
