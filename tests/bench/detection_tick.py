"""What detection costs an agent that watches four engines beside 2,000 other series.

CPU of the thread: the latency sampler's turn, each five seconds, and the turn of its detectors,
each second; together as a share of a core, of which the whole agent may have one percent.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from detection_life import DETECTORS
from detection_replicas import Simulated
from figures import Figure, of_runs
from node import Node
from timing import interleaved

from gpuward.agent.model import Batch, Sample, SeriesKey
from gpuward.agent.replica_watch import TURN_S
from gpuward.agent.samplers.latency import LatencySampler
from gpuward.agent.window import Readings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from timing import Effort

SERIES = 2_000
ENGINES = 4
# Of a core; the agent's is ten times that.
BUDGET_RATIO = 0.001
WARM_UP_TURNS = 240


def measure(effort: Effort) -> Iterator[Figure]:
    """Yield the two turns and their share of a core."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        taken = _taken(effort, Path(folder, "latency.json"), runner)
    turns_ms = [1e3 * seconds for seconds in taken["turn"]]
    ticks_ms = [1e3 * seconds for seconds in taken["detectors"]]
    yield of_runs(f"latency sampler's turn, {ENGINES} replicas, CPU", turns_ms, "ms")
    yield of_runs(f"latency detectors' turn, {ENGINES} replicas, CPU", ticks_ms, "ms")
    shares = [(turn / TURN_S + tick) / 1e3 for turn, tick in zip(turns_ms, ticks_ms, strict=True)]
    yield of_runs(
        "detection of slow replicas, share of a core",
        [100 * share for share in shares],
        "%",
        budget=100 * BUDGET_RATIO,
    )


def _taken(effort: Effort, path: Path, runner: asyncio.Runner) -> dict[str, list[float]]:
    readings, node = Readings(), Node(SERIES)
    sampler = LatencySampler(path, readings.window)
    replicas = [Simulated(seed) for seed in range(ENGINES)]
    now_s = 0.0

    def make() -> None:
        nonlocal now_s
        for _ in range(int(TURN_S)):
            now_s += 1.0
            readings.apply("node", node.batch(now_s), now_s)
            for port, replica in enumerate(replicas):
                replica.advance(now_s)
                key = SeriesKey("", service="chat", endpoint=f"127.0.0.1:{8000 + port}")
                samples = [
                    Sample(key._replace(signal=signal), now_s, value)
                    for signal, value in replica.signals().items()
                ]
                readings.apply(f"engine {port}", Batch(samples=tuple(samples)), now_s)

    def turn() -> None:
        readings.apply("latency", runner.run(sampler.sample(now_s)), now_s)

    def detectors() -> None:
        window = readings.window(now_s)
        for each in DETECTORS:
            tuple(each.detect(window))

    for _ in range(WARM_UP_TURNS):
        make()
        turn()
    return interleaved(
        {"make": make, "turn": turn, "detectors": detectors}, rounds=effort.times(100)
    )
