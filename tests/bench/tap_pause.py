"""For how long a thread that has nothing to do with the GPU stands still because of the tap.

The workload holds torch's allocator lock for 200 ms in every second: real torch, whose cudaMalloc
the simulated driver slows down.  Who asks for statistics meanwhile waits for that lock and keeps
the GIL, so that every Python thread of the process stops.  The tap asks where the lock cannot be
held: after a step of the engine (hook), or on the main thread between two bytecodes (pending call).

Four processes take turns of a second each, so that a busy minute of the machine falls on all of
them alike; a figure is the median over turns of each turn's worst pause.  The tap ticks fifty times
a second here, as the naive thread beside it does, so that every turn has ticks inside the lock.
"""

from __future__ import annotations

import json
import statistics
from contextlib import ExitStack
from typing import TYPE_CHECKING

from figures import of_runs
from tap_torch_node import torch_node

from gpuward.agent.samplers.tap_file import TapFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from figures import Figure
    from tap_torch_node import TorchNode
    from timing import Effort

BUDGET_MS = 2.0
LOCK_HELD_S = 0.2
# gpuward.simulator's group of calls into CUDA.
CALLS_CUDA = 1 << 12
# Of the fifty ticks in a turn, and of those before a tap slows down on a busy machine.
LEAST_PUBLICATIONS = 5
TAPS = {"hook": "after a step of the engine", "pending": "by a pending call"}


def measure(effort: Effort) -> Iterator[Figure]:
    pauses: dict[str, list[float]] = {kind: [] for kind in ("none", *TAPS, "poll")}
    with ExitStack() as parts:
        node = parts.enter_context(torch_node())
        workloads = [Workload(node, kind, parts) for kind in pauses]
        for workload in workloads:
            workload.answer()
        node.state.row.delay_groups = CALLS_CUDA
        node.state.row.delay_microseconds = int(1e6 * LOCK_HELD_S)
        for _ in range(effort.times(20)):
            for workload in workloads:
                pauses[workload.kind].append(1e3 * workload.turn())
    without = pauses["none"]
    yield of_runs("pause of a thread without the tap", without, "ms")
    for kind, how in TAPS.items():
        longer = [ours - none for ours, none in zip(pauses[kind], without, strict=True)]
        ratio = f"{statistics.median(pauses[kind]):.1f} ms with it"
        yield of_runs(f"longer pause, tap {how}", longer, "ms", budget=BUDGET_MS, ratio=ratio)
    yield of_runs("pause with a thread that polls", pauses["poll"], "ms")


class Workload:
    """A process that works for a second when told."""

    def __init__(self, node: TorchNode, kind: str, parts: ExitStack) -> None:
        self.kind = kind
        self._directory = node.folder / kind
        self._directory.mkdir()
        self._process = node.start("tap_pause_workload.py", self._directory, kind)
        parts.callback(self._process.wait)
        parts.callback(self._process.kill)

    def turn(self) -> float:
        """Return the worst pause in seconds; raises ``RuntimeError`` for a turn that is none."""
        published = self._published()
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = self.answer()
        if answer["slowest step"] < LOCK_HELD_S:
            raise RuntimeError(f"{self.kind}: the lock was not held")
        if self.kind in TAPS and self._published() < published + LEAST_PUBLICATIONS:
            raise RuntimeError(f"{self.kind}: the tap did not publish")
        return answer["pause"]

    def answer(self) -> object:
        """Wait for what the process says next."""
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.kind}: ended with status {self._process.wait()}")
        return json.loads(line)

    def _published(self) -> int:
        """Return how many publications there were, of all time."""
        count = 0
        for path in self._directory.glob("*.tap"):
            file = TapFile(path)
            count += sum(record.seq // 2 for record in file.read().values())
            file.close()
        return count
