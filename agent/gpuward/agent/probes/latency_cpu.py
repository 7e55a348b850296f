"""The latency probe on the processor, with numpy: what a crowded or stolen core looks like.

The empty piece of work is a thread's wake-up and answer; copy and product are the sizes that the
GPU twin's neighbours use, small enough to be over in a few milliseconds.
"""

from __future__ import annotations

import threading
import time
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from gpuward.agent.probes.figure import Figure, Stalled, spread
from gpuward.native.spin_gap import spin_gaps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpuward.agent.probes.figure import Meter

ROUND_TRIPS = 32
DEADLINE_S = 2.0
COPY_BYTES = 16 << 20
PRODUCT_SIDE = 256
SPIN_NS = 2_000_000
GAP_NS = 50_000


def run(meter: Meter) -> list[Figure]:
    """Return figures of one burst; about ten milliseconds on an idle core, none of a GPU."""
    del meter
    gaps = spin_gaps(SPIN_NS, GAP_NS)
    return [
        *spread("launch", _round_trips()),
        Figure("copy_bytes_per_second", COPY_BYTES / _copy_s()),
        Figure("product_seconds", _product_s()),
        Figure("gap_count", float(gaps.gaps)),
        Figure("longest_gap_seconds", gaps.longest_gap_ns / 1e9),
        Figure("stolen_ratio", gaps.gap_total_ns / max(1, gaps.elapsed_ns)),
    ]


def _round_trips() -> list[float]:
    """Return how long a waiting thread takes to be woken and to answer, each time."""
    asked, answered = threading.Semaphore(0), threading.Semaphore(0)

    def answer() -> None:
        for _ in range(ROUND_TRIPS):
            asked.acquire()
            answered.release()

    # A daemon: should the deadline pass, nothing may wait for it.
    threading.Thread(target=answer, daemon=True).start()
    trips_s = []
    for _ in range(ROUND_TRIPS):
        started_s = time.perf_counter()
        asked.release()
        if not answered.acquire(timeout=DEADLINE_S):
            raise Stalled(f"a thread was not woken within {DEADLINE_S:g} s")
        trips_s.append(time.perf_counter() - started_s)
    return trips_s


def _copy_s() -> float:
    source, target = _copy_buffers()
    started_s = time.perf_counter()
    np.copyto(target, source)
    return time.perf_counter() - started_s


def _product_s() -> float:
    matrix = _matrix()
    started_s = time.perf_counter()
    np.matmul(matrix, matrix)
    return time.perf_counter() - started_s


@cache
def _copy_buffers() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    # Written to, so that the pages exist before they are timed.
    return np.ones(COPY_BYTES, np.uint8), np.ones(COPY_BYTES, np.uint8)


@cache
def _matrix() -> NDArray[np.float32]:
    return np.ones((PRODUCT_SIDE, PRODUCT_SIDE), np.float32)
