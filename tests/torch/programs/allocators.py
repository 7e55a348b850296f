"""Use memory as the scenario named by the argument does, phase by phase.

After each phase one line says what torch knows; the program then runs Python until it is told, by
a line on standard input, to go on.
"""

import contextlib
import ctypes
import json
import os
import select
import sys
import time

import torch

MIB = 1 << 20


def memory(mebibytes):
    return torch.empty(mebibytes * MIB, dtype=torch.uint8, device="cuda")


def say(**facts):
    print(json.dumps(facts), flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        time.sleep(0.005)
    sys.stdin.readline()


def say_stats():
    """Counters that the tests compare, and what lies in private pools where torch counts that."""
    stats = torch.cuda.memory_stats_as_nested_dict()
    pools = stats.get("reserved_bytes_by_private_pools")
    private = None if pools is None else sum(p["all"]["current"] for p in pools.values())
    say(
        reserved=stats["reserved_bytes"]["all"]["current"],
        peak=stats["reserved_bytes"]["all"]["peak"],
        allocations=stats["allocation"]["all"]["allocated"],
        driver_calls=stats["num_device_alloc"] + stats["num_device_free"],
        retries=stats["num_alloc_retries"],
        private=private,
    )


def memory_pool():
    """A MemPool beside ordinary memory, then without its tensor, then deleted."""
    pool = torch.cuda.MemPool()
    ordinary = memory(30)
    with torch.cuda.use_mem_pool(pool):
        private = memory(50)
    say_stats()
    del private
    say_stats()
    del pool
    torch.cuda.empty_cache()
    say_stats()
    del ordinary


def graph_pool():
    """The pool of a CUDA graph, filled as a capture would."""
    ordinary = memory(30)
    pool = torch.cuda.graph_pool_handle()
    torch._C._cuda_beginAllocateCurrentThreadToPool(0, pool)
    captured = memory(50)
    torch._C._cuda_endAllocateToPool(0, pool)
    say_stats()
    del ordinary, captured


def reset():
    """Counters that only grow, until the program itself resets them: vLLM and SGLang do."""
    held = memory(30)
    for _ in range(20):
        memory(40)
    with contextlib.suppress(torch.OutOfMemoryError):
        memory(1 << 20)
    say_stats()
    torch.cuda.reset_accumulated_memory_stats()
    torch.cuda.reset_peak_memory_stats()
    say_stats()
    for _ in range(5):
        memory(40)
    say_stats()
    del held


def own_allocator():
    return torch.cuda.memory.CUDAPluggableAllocator(
        os.environ["OWN_ALLOCATOR"], "own_malloc", "own_free"
    )


def pluggable():
    """An allocator in place of torch's own: there are no statistics."""
    torch.cuda.memory.change_current_allocator(own_allocator())
    held = memory(30)
    try:
        torch.cuda.memory_stats_as_nested_dict()
        said = "counted"
    except RuntimeError:
        said = "no statistics"
    say(said=said, backend=torch.cuda.get_allocator_backend(), bytes=held.numel())


def asleep():
    """Fragment, fall asleep, wake up: meanwhile torch counts what is not there."""
    saver = ctypes.CDLL(None)
    held = [memory(100) for _ in range(30)]
    free = [torch.cuda.mem_get_info()[0]]
    for index in range(30):
        held[index] = None
        held[index] = memory(60)
    free.append(torch.cuda.mem_get_info()[0])
    saver.fall_asleep()
    free.append(torch.cuda.mem_get_info()[0])
    say(free=free)
    say(status=saver.wake_up(), free=torch.cuda.mem_get_info()[0])


def later():
    """Torch's own allocator, and after a while a pool that another one serves."""
    before = memory(30)
    say_stats()
    pool = torch.cuda.MemPool(own_allocator().allocator())
    say_stats()
    del before, pool


globals()[sys.argv[1]]()
