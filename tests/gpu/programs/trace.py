"""Serve until memory has slowly gone to pieces and a request fails; print one JSON object.

With torch's allocator, or with its replica that is told the very same.  The workloads are those of
``tests/bench/prediction_workloads.py``; adapters that stay where they fell are what fragments.
Arguments: ``torch`` or ``replica``, workload, seed, steps a second (0: as fast as it goes), steps
at most; the allocator's settings in ``PYTORCH_ALLOC_CONF``.

The object: ``columns`` and ``rows``, one a step, with what the tap publishes of the allocator and
what is left of the device; ``segments`` at the end, see ``segments()``.  ``memory_bytes`` is what
the process may take, so that no trace needs more than 16 GiB of any GPU.
"""

import json
import os
import random
import sys
import time

from prediction_workloads import WORKLOADS, Workload

from gpuward.simulator.allocator import CachingAllocator
from gpuward.simulator.allocator_config import AllocatorConfig
from gpuward.simulator.allocator_device import FixedDevice
from gpuward.simulator.workload_torch import TorchMemory

MIB = 1 << 20
MEMORY_BYTES = 16 << 30
SETTINGS = os.environ.get("PYTORCH_ALLOC_CONF", "")
POOLS = ("all", "small_pool", "large_pool")
CURRENT = (
    "allocation",
    "segment",
    "active",
    "inactive_split",
    "allocated_bytes",
    "reserved_bytes",
    "active_bytes",
    "inactive_split_bytes",
    "requested_bytes",
)
# Cumulative; of the large pool, for the mean of what is asked for.
TOTALS = ("allocation", "allocated_bytes")
COUNTERS = (
    "num_alloc_retries",
    "num_ooms",
    "num_sync_all_streams",
    "num_device_alloc",
    "num_device_free",
)
COLUMNS = [
    "t_s",
    "device_free_bytes",
    *(f"{family}.{pool}.current" for family in CURRENT for pool in POOLS),
    *(f"{family}.large_pool.allocated" for family in TOTALS),
    *COUNTERS,
]


def fraction_of(total):
    """Return the share that is ``MEMORY_BYTES``, and a little for rounding; never a page more."""
    return min(1.0, (MEMORY_BYTES + MIB) / total)


class Torch(TorchMemory):
    """The first GPU, of which the process may take ``MEMORY_BYTES``."""

    def __init__(self):
        import torch

        super().__init__(0)
        self._cuda = torch.cuda
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(fraction_of(total), 0)
        self.memory_stats = torch.cuda.memory_stats_as_nested_dict
        self.snapshot = torch.cuda.memory_snapshot

    @property
    def left_bytes(self):
        return min(MEMORY_BYTES - self._cuda.memory_reserved(), self.free_bytes)


class Replica(CachingAllocator):
    """The same amount of nobody's memory."""

    def __init__(self):
        self._own = FixedDevice(2 * MEMORY_BYTES)
        super().__init__(self._own, AllocatorConfig.parse(SETTINGS))
        self.set_memory_fraction(fraction_of(self._own.total_bytes))

    @property
    def left_bytes(self):
        return MEMORY_BYTES - self._own.used_bytes


class Distinct:
    """No two requests alike: of two blocks of one size torch takes that with the lower address, and
    addresses are the driver's.
    """

    def __init__(self, memory):
        self._memory = memory
        self._requests = 0
        self.free = memory.free

    def malloc(self, size):
        self._requests += 1
        return self._memory.malloc(size + self._requests % 2039 * 512)


def row(t_s, memory):
    stats = memory.memory_stats()
    current = (stats[family][pool]["current"] for family in CURRENT for pool in POOLS)
    totals = (stats[family]["large_pool"]["allocated"] for family in TOTALS)
    counters = (stats[counter] for counter in COUNTERS)
    return [round(t_s, 3), memory.left_bytes, *current, *totals, *counters]


def segments(memory):
    """Each segment as its flags and the sizes of its blocks in order, those in use negative."""
    return [
        [
            f"{segment['segment_type'][0]}{'e' if segment['is_expandable'] else ''}",
            *(b["size"] * (1 if b["state"] == "inactive" else -1) for b in segment["blocks"]),
        ]
        for segment in memory.snapshot()
    ]


def adapter(work):
    """Load an adapter in the middle of a prefill, and never unload it."""
    prefill = work.take([work.random.randrange(200, 900) * MIB])
    work.keep([work.random.randrange(24, 64) * MIB], steps=10**9)
    work.give_back(prefill)


def main(allocator, workload, seed, hertz, most):
    memory = {"torch": Torch, "replica": Replica}[allocator]()
    chance = random.Random(f"trace/{workload}/{seed}")
    work = Workload(Distinct(memory), chance, load=chance.uniform(0.2, 0.6))
    began_s, rows = time.monotonic(), []
    while len(rows) < most and not (rows and rows[-1][COLUMNS.index("num_ooms")]):
        WORKLOADS[workload](work)
        adapter(work)
        rows.append(row(time.monotonic() - began_s if hertz else len(rows), memory))
        if hertz:
            time.sleep(max(0.0, began_s + len(rows) / hertz - time.monotonic()))
    trace = {
        "workload": workload,
        "seed": seed,
        "alloc_conf": SETTINGS,
        "hertz": hertz,
        "memory_bytes": MEMORY_BYTES,
        "columns": COLUMNS,
        "rows": rows,
        "segments": segments(memory),
    }
    print(json.dumps(trace))


main(*sys.argv[1:3], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
