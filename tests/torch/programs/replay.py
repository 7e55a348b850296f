"""Replay sequences of operations with torch's allocator; a line in, a line out, until input ends.

A sequence is a JSON list of ``[name, argument...]``.  The answer has, after each operation, what it
returned and a few counters, and at the end all counters and blocks.  What a sequence leaves behind
(tensors, pools, busy streams) the next one finds.
"""

import ctypes
import json
import sys

import torch

driver = ctypes.CDLL("libcuda.so.1")
tensors = {}
pools = {}
graph_uses = {}
# Stream 0 is the default stream.
streams = [torch.cuda.default_stream(), *(torch.cuda.Stream() for _ in range(3))]


def malloc(key, size, stream=0):
    """Return the address, ``None`` when there is no memory; a later free of ``key`` is skipped."""
    with torch.cuda.stream(streams[stream]):
        try:
            tensors[key] = torch.empty(size, dtype=torch.uint8, device="cuda")
        except torch.OutOfMemoryError:
            return None
    return tensors[key].data_ptr()


def free(key):
    tensors.pop(key, None)


def record_stream(key, stream):
    if key in tensors:
        tensors[key].record_stream(streams[stream])


def keep_busy(stream):
    """Give the stream work that lasts until somebody waits for it."""
    pointer = ctypes.c_void_p(streams[stream].cuda_stream)
    assert driver.gpuward_simulator_keep_busy(pointer) == 0


def empty_cache():
    """Return what the counters and the blocks were before, and how much the device got back."""
    before = {"stats": stats(), "snapshot": torch.cuda.memory_snapshot()}
    free_bytes = torch.cuda.mem_get_info()[0]
    torch.cuda.empty_cache()
    return {**before, "returned": torch.cuda.mem_get_info()[0] - free_bytes}


def new_pool(name):
    pools[name] = torch.cuda.MemPool()
    return pools[name].id


def new_graph(name):
    """Reserve a name for a pool as CUDA graphs have it: it is made when first entered."""
    pools[name] = torch.cuda.graph_pool_handle()
    graph_uses[name] = 0
    return pools[name]


def enter(name):
    if name in graph_uses:
        graph_uses[name] += 1
        torch._C._cuda_beginAllocateCurrentThreadToPool(0, pools[name])
    else:
        torch._C._cuda_beginAllocateCurrentThreadToPool(0, pools[name].id)


def leave(name):
    """Allocate elsewhere; a graph keeps the pool that it was captured into in use."""
    if name in graph_uses:
        torch._C._cuda_endAllocateToPool(0, pools[name])
    else:
        torch._C._cuda_endAllocateToPool(0, pools[name].id)
        torch._C._cuda_releasePool(0, pools[name].id)


def drop(name):
    """Delete a MemPool, which empties it, or reset the graphs of a pool, which does not."""
    pool = pools.pop(name)
    for _ in range(graph_uses.pop(name, 0)):
        torch._C._cuda_releasePool(0, pool)


def stats():
    nested = torch.cuda.memory_stats_as_nested_dict()
    private = nested.get("reserved_bytes_by_private_pools", {})
    by_pool = {f"{first}_{second}": array for (first, second), array in private.items()}
    return {**nested, "reserved_bytes_by_private_pools": by_pool}


OPERATIONS = {
    "malloc": malloc,
    "free": free,
    "record_stream": record_stream,
    "keep_busy": keep_busy,
    "synchronize": lambda stream: streams[stream].synchronize(),
    "empty_cache": empty_cache,
    "new_pool": new_pool,
    "new_graph": new_graph,
    "enter": enter,
    "leave": leave,
    "drop": drop,
    "set_memory_fraction": torch.cuda.set_per_process_memory_fraction,
}
COUNTERS = ("num_alloc_retries", "num_ooms", "num_device_alloc", "num_device_free")
LEVELS = ("reserved_bytes", "allocated_bytes", "active_bytes", "inactive_split_bytes")

torch.cuda.init()
for line in sys.stdin:
    steps = []
    for operation, *arguments in json.loads(line):
        answer = OPERATIONS[operation](*arguments)
        now = torch.cuda.memory_stats_as_nested_dict()
        levels = [now[name]["all"]["current"] for name in LEVELS]
        steps.append([answer, *(now[name] for name in COUNTERS), *levels])
    said = {"steps": steps, "stats": stats(), "snapshot": torch.cuda.memory_snapshot()}
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
