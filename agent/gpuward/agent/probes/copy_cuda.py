"""Probes of copies on a GPU: over PCIe from and to pinned memory, and inside the GPU's own.

A link that trained to half its width, a process on the wrong NUMA node, a memory clock that is held
down: each shows in the bytes a second of a copy long before a counter of errors moves.  The small
copies tell what a copy costs beside its bytes.
"""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from gpuward.agent.probes.card import (
    BUFFER_BYTES,
    ON_DEVICE,
    PINNED_BYTES,
    TO_DEVICE,
    TO_HOST,
    card,
)
from gpuward.agent.probes.figure import Figure

if TYPE_CHECKING:
    from gpuward.agent.probes.card import Card
    from gpuward.agent.probes.figure import Meter

SMALL_BYTES = 4 << 10
SMALL_COPIES = 8
DEVICE_COPIES = 2


def host(meter: Meter) -> list[Figure]:
    """Return speeds of copies to the GPU and back: 32 MiB, about a millisecond of its engines."""
    gpu = card()
    device, pinned = gpu.left.ptr, gpu.pinned.ptr
    figures = _over_pcie(gpu, "host_to_device", (device, pinned), TO_DEVICE, meter)
    if not meter.is_spent:
        figures += _over_pcie(gpu, "device_to_host", (pinned, device), TO_HOST, meter)
    return figures


def device(meter: Meter) -> list[Figure]:
    """Return the speed of a copy inside the GPU, the better of two: 0.1 ms at 3 TB/s."""
    gpu = card()
    copy = partial(gpu.copy, gpu.right.ptr, gpu.left.ptr, BUFFER_BYTES, ON_DEVICE)
    shortest_s = min(gpu.timed(copy, meter)[1] for _ in range(DEVICE_COPIES))
    return [Figure("device_copy_bytes_per_second", BUFFER_BYTES / shortest_s)]


def _over_pcie(
    gpu: Card, name: str, target_source: tuple[int, int], kind: int, meter: Meter
) -> list[Figure]:
    small = partial(gpu.copy, *target_source, SMALL_BYTES, kind)
    large = partial(gpu.copy, *target_source, PINNED_BYTES, kind)
    small_s = [gpu.timed(small, meter)[1] for _ in range(SMALL_COPIES)]
    _, large_s = gpu.timed(large, meter)
    return [
        Figure(f"{name}_small_seconds", median(small_s)),
        Figure(f"{name}_bytes_per_second", PINNED_BYTES / large_s),
    ]
