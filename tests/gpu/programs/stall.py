"""Measure for how long Python stands still while the allocator waits for the GPU.

A thread makes the allocator wait under its lock: memory goes back to the driver while a kernel of
``BUSY_S`` runs.  An unrelated thread notes its longest pause, first so, then while a third one asks
for statistics fifty times a second, as a tap without a rule would.  Argument: rounds.
"""

import json
import sys
import threading
import time

import torch

SIZE = 512 << 20
BUSY_S = 0.1
# About what a GPU's clock does at most; the kernel is longer where it is slower.
CLOCK_HERTZ = 2e9


def wait_under_the_lock(rounds, spent):
    for _ in range(rounds):
        memory = torch.empty(SIZE, dtype=torch.uint8, device="cuda")
        torch.cuda._sleep(int(BUSY_S * CLOCK_HERTZ))
        del memory
        before = time.monotonic()
        torch.cuda.empty_cache()
        spent["empty_cache_s"] = max(spent.get("empty_cache_s", 0), time.monotonic() - before)
        before = time.monotonic()
        torch.empty(SIZE, dtype=torch.uint8, device="cuda")
        spent["malloc_s"] = max(spent.get("malloc_s", 0), time.monotonic() - before)
        torch.cuda.synchronize()


def watch(done, spent):
    before = time.monotonic()
    while not done.wait(0.002):
        now = time.monotonic()
        spent["pause_s"] = max(spent["pause_s"], now - before)
        before = now


def poll(done, spent):
    while not done.wait(0.02):
        before = time.monotonic()
        torch.cuda.memory_stats_as_nested_dict()
        spent["statistics_s"] = max(spent.get("statistics_s", 0), time.monotonic() - before)


def measure(rounds, *others):
    done, spent = threading.Event(), {"pause_s": 0.0}
    threads = [threading.Thread(target=other, args=(done, spent)) for other in (watch, *others)]
    for thread in threads:
        thread.start()
    wait_under_the_lock(rounds, spent)
    done.set()
    for thread in threads:
        thread.join()
    return spent


torch.cuda.init()
wait_under_the_lock(1, {})
rounds = int(sys.argv[1])
print(json.dumps({"without polling": measure(rounds), "with polling": measure(rounds, poll)}))
