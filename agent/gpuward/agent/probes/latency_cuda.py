"""The latency probe on a GPU, with CuPy: round trips of an empty kernel.

No cuBLAS, no memory pool, no allocation after the first burst: a context is all that this costs.
Times are taken both ways, by events on the GPU and by the wall: wall far above event means that
the processor starves, both high means that the GPU is busy with someone else.  An event is asked
whether it is done until the deadline, never waited for, since that wait has no end when the driver
hangs.
"""

from __future__ import annotations

import statistics
import time
from functools import cache
from importlib import resources
from typing import Any

from gpuward.agent.probes.figure import Figure, Stalled

ROUND_TRIPS = 32
DEADLINE_S = 2.0
KERNEL = "gpuward_empty"


def run() -> list[Figure]:
    """Return figures of one burst on the one GPU that this process sees; 0.2 ms of its time."""
    import cupy

    kernel, stream = _prepare()
    deadline_s = time.perf_counter() + DEADLINE_S
    walls_s: list[float] = []
    events_s: list[float] = []
    with stream:
        # The first after a pause finds low clocks and cold caches: it says nothing of the rest.
        _launch(cupy, kernel, stream, deadline_s)
        for _ in range(ROUND_TRIPS):
            wall_s, event_s = _launch(cupy, kernel, stream, deadline_s)
            walls_s.append(wall_s)
            events_s.append(event_s)
    return [
        Figure("launch_seconds", statistics.median(walls_s)),
        Figure("launch_longest_seconds", max(walls_s)),
        Figure("launch_event_seconds", statistics.median(events_s)),
    ]


def _launch(cupy: Any, kernel: Any, stream: Any, deadline_s: float) -> tuple[float, float]:
    """Return wall and event seconds of one round trip; raises ``Stalled``."""
    begin, end = _events()
    started_s = time.perf_counter()
    begin.record(stream)
    kernel((1,), (1,), ())
    end.record(stream)
    while not end.done:
        if time.perf_counter() > deadline_s:
            raise Stalled(f"an empty kernel was not done within {DEADLINE_S:g} s")
    wall_s = time.perf_counter() - started_s
    return wall_s, cupy.cuda.get_elapsed_time(begin, end) / 1e3


@cache
def _prepare() -> tuple[Any, Any]:
    import cupy

    cupy.cuda.set_allocator(None)
    kernel = cupy.RawKernel(_source(), KERNEL)
    return kernel, cupy.cuda.Stream(non_blocking=True)


@cache
def _events() -> tuple[Any, Any]:
    import cupy

    return cupy.cuda.Event(), cupy.cuda.Event()


def _source() -> str:
    """Return the CUDA source that is shipped with gpuward.native."""
    return (resources.files("gpuward.native") / "probes" / "empty.cu").read_text("utf-8")
