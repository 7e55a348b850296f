"""Probe what it costs to take memory of the GPU and to give it back, size by size.

For a person who asks, never by schedule: memory that comes and goes ends an engine that starts at
that moment, and the driver stops the process for it.  A driver that is slow here is slow for every
engine whose cache is too small.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gpuward.agent.probes.card import card
from gpuward.agent.probes.figure import Figure

if TYPE_CHECKING:
    from gpuward.agent.probes.figure import Meter

MIB = 1 << 20
LADDER_MIB = (2, 16, 64, 256)


def run(meter: Meter) -> list[Figure]:
    """Return wall seconds of each step; nothing of it is the GPU's time, so no meter runs."""
    del meter
    runtime = card().runtime
    figures = []
    for size_mib in LADDER_MIB:
        started_s = time.perf_counter()
        pointer = runtime.malloc(size_mib * MIB)
        taken_s = time.perf_counter()
        runtime.free(pointer)
        figures += [
            Figure(f"take_{size_mib}_mib_seconds", taken_s - started_s),
            Figure(f"free_{size_mib}_mib_seconds", time.perf_counter() - taken_s),
        ]
    return figures
