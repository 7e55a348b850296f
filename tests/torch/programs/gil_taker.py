"""Allocate from a pool whose allocator calls Python, which takes the GIL inside torch's lock.

The first argument says who allocates: a thread of its own, while the main thread runs Python; the
main thread; or the engine's step.  The second whether the tap can see that the allocator is made.
Prints, after some seconds, which threads asked for statistics, and how many calls of the allocator
were under way then.
"""

import ctypes
import json
import os
import sys
import threading
import time
import types

import torch

MIB = 1 << 20
SECONDS = 4
who, maker = sys.argv[1:]

asked_by = []
calls = []  # of the allocator, ever
under_way = []  # those of now
ask = torch._C._cuda_memoryStats


def stats(device):
    asked_by.append((threading.current_thread().name, len(under_way)))
    return ask(device)


torch._C._cuda_memoryStats = stats


class Worker:
    """In the place of vLLM's: ``execute_model`` allocates."""

    def execute_model(self):
        allocate()


def called_with_the_lock():
    """Run Python for a while, as it is done there: other threads, and pending calls, get in."""
    calls.append(1)
    under_way.append(1)
    end = time.monotonic() + 0.05
    while time.monotonic() < end:
        time.sleep(0.001)
    under_way.pop()


def allocate():
    """Ask the allocator for memory, and give it back: a pool keeps it for as long as it lives."""
    pool = torch.cuda.MemPool(allocator.allocator())
    with torch.cuda.use_mem_pool(pool):
        tensor = torch.empty(30 * MIB, dtype=torch.uint8, device="cuda")
    del tensor, pool
    torch.cuda.empty_cache()


if maker == "unseen":
    made = torch._C._cuda_customAllocator
    torch._C._cuda_customAllocator = getattr(made, "__wrapped__", made)
path = os.environ["OWN_ALLOCATOR"]
allocator = torch.cuda.memory.CUDAPluggableAllocator(path, "own_malloc", "own_free")
callback = ctypes.CFUNCTYPE(None)(called_with_the_lock)
ctypes.CDLL(path).call_python(callback)
if who == "engine":
    engine = types.ModuleType("vllm.v1.worker.gpu_worker")
    engine.Worker = Worker
    sys.modules[engine.__name__] = engine

torch.cuda.init()
end = time.monotonic() + SECONDS


def work():
    while time.monotonic() < end:
        Worker().execute_model()


if who == "main":
    work()
else:
    thread = threading.Thread(target=work, name=who, daemon=True)
    thread.start()
    while thread.is_alive():
        time.sleep(0.005)
# torch may free memory once there is no interpreter any more.
ctypes.CDLL(path).call_python(None)
assert len(calls) > 2, "the allocator was not called"
print(json.dumps(sorted(set(asked_by))))
