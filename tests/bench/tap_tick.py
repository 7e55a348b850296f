"""What one tick of the tap costs the inference process: statistics, record, two pwrites.

The statistics are of the shape that torch 2.14 gives, with every family; asking torch for them is
torch's own time and not counted here.  Floor: pwrite of the same bytes, made before.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from figures import of_runs
from timing import interleaved, times_of

from gpuward.tap import layout
from gpuward.tap.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from figures import Figure
    from timing import Effort

BUDGET_US = 25.0
FAMILIES = (
    *("allocation", "segment", "active", "inactive_split"),
    *("allocated_bytes", "reserved_bytes", "active_bytes", "inactive_split_bytes"),
    *("requested_bytes",),
)
COUNTERS = (
    *("num_alloc_retries", "num_ooms", "num_sync_all_streams", "num_device_alloc"),
    *("num_device_free",),
)


def statistics(size: int) -> dict[str, object]:
    """Return what ``torch.cuda.memory_stats_as_nested_dict()`` does, figures made of ``size``."""
    values = {"current": size, "peak": 2 * size, "allocated": 9 * size, "freed": 8 * size}
    stats: dict[str, object] = {
        family: {pool: dict(values) for pool in ("all", "large_pool", "small_pool")}
        for family in FAMILIES
    }
    stats |= {"oversize_allocations": dict(values), "oversize_segments": dict(values)}
    stats |= dict.fromkeys(COUNTERS, 7)
    return stats | {"max_split_size": -1}


def measure(effort: Effort) -> Iterator[Figure]:
    stats = statistics(20 << 30)
    with tempfile.TemporaryDirectory() as directory:
        publisher = Publisher(directory, [(bytes(range(16)), 0)], torch_version="2.14.1")
        descriptor = os.open(publisher.path, os.O_RDWR)
        record, entry = bytes(layout.RECORD_SIZE), bytes(layout.RING_ENTRY_SIZE)

        def write_only() -> None:
            os.pwrite(descriptor, record, layout.HEADER_SIZE)
            os.pwrite(descriptor, entry, layout.HEADER_SIZE + layout.SLOTS * layout.SLOT_SIZE)

        calls = {"tick": lambda: publisher.publish(0, stats), "floor": write_only}
        taken = interleaved(calls, rounds=effort.times(60), times=500)
        os.close(descriptor)
        publisher.close()
    ticks_us = [1e6 * seconds for seconds in taken["tick"]]
    ratio = f"{times_of(taken['floor'], taken['tick']):.1f} x of its two pwrites alone"
    yield of_runs("tap tick, CPU", ticks_us, "us", budget=BUDGET_US, ratio=ratio)
