"""The latency probe on a GPU: round trips of an empty kernel, and a kernel that spins.

Round trips are timed both ways, by events on the GPU and by the wall: wall far above event means
that the processor starves, both high means that the GPU is busy with someone else.  The spinning
kernel tells which clock work really gets, and when it stood still because another process had the
GPU (``spin``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpuward.agent.probes.card import TO_HOST, card
from gpuward.agent.probes.figure import spread
from gpuward.agent.probes.spin import spin_figures

if TYPE_CHECKING:
    from gpuward.agent.probes.card import Card
    from gpuward.agent.probes.figure import Figure, Meter

ROUND_TRIPS = 32
# 100 steps of 2 us at 2 GHz: a step multiplies and adds a thousand times, four cycles each.
LOOKS = 100
CHAIN = 1_000
WORD_BYTES = 8
TABLE_BYTES = LOOKS * WORD_BYTES


def run(meter: Meter) -> list[Figure]:
    """Return figures of one burst, about 0.7 ms of the GPU; fewer where ``meter`` ends it."""
    gpu = card()
    # The first after a pause finds low clocks and cold caches: it says nothing of the rest.
    _launch(gpu, meter)
    _spin(gpu, meter)
    cycles, nanoseconds = _spin(gpu, meter)
    trips: list[tuple[float, float]] = []
    while len(trips) < ROUND_TRIPS and not meter.is_spent:
        trips.append(_launch(gpu, meter))
    return [
        *spin_figures(cycles, nanoseconds),
        *spread("launch", [wall_s for wall_s, _ in trips]),
        *spread("launch_event", [event_s for _, event_s in trips]),
    ]


def _launch(gpu: Card, meter: Meter) -> tuple[float, float]:
    kernel = gpu.kernel("empty")
    return gpu.timed(lambda: kernel((1,), (1,), ()), meter)


def _spin(gpu: Card, meter: Meter) -> tuple[list[int], list[int]]:
    """Return what the kernel read from both clocks."""
    kernel = gpu.kernel("spin_gap")
    table = gpu.left.ptr
    arguments = (
        *(np.uint64(table + at) for at in (0, TABLE_BYTES, 2 * TABLE_BYTES)),
        np.int32(LOOKS),
        np.int32(CHAIN),
    )
    gpu.timed(lambda: kernel((1,), (1,), arguments), meter)
    gpu.timed(lambda: gpu.copy(gpu.pinned.ptr, table, 2 * TABLE_BYTES, TO_HOST), meter)
    read = np.frombuffer(gpu.host, np.int64, 2 * LOOKS)
    return read[:LOOKS].tolist(), read[LOOKS:].tolist()
