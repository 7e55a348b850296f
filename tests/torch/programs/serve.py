"""Obey operations from standard input, ``[name, argument...]`` a line; answer each in a line."""

import ctypes
import json
import os
import sys
import threading
import time

import torch

tensors = {}


def malloc(name, size, device=0):
    """Hold a tensor of ``size`` bytes as ``name``; return how long that took, in seconds."""
    before = time.monotonic()
    tensors[name] = torch.empty(size, dtype=torch.uint8, device=f"cuda:{device}")
    return time.monotonic() - before


def free(name):
    del tensors[name]


def see_busy_stream():
    """Return whether an event has happened: behind a busy stream, and once it was waited for."""
    stream, other = torch.cuda.Stream(), torch.cuda.Stream()
    driver = ctypes.CDLL("libcuda.so.1")
    before = stream.record_event()
    assert driver.gpuward_simulator_keep_busy(ctypes.c_void_p(stream.cuda_stream)) == 0
    behind, elsewhere = stream.record_event(), other.record_event()
    seen = [event.query() for event in (before, elsewhere, behind)]
    idle = [stream.query(), other.query()]
    behind.synchronize()
    return {"events": seen, "streams": idle, "after": [behind.query(), stream.query()]}


def free_beside_busy_stream():
    """Return whether a busy stream is idle again after cudaFree."""
    stream = torch.cuda.Stream()
    driver = ctypes.CDLL("libcuda.so.1")
    tensor = torch.empty(64 << 20, dtype=torch.uint8, device="cuda")
    assert driver.gpuward_simulator_keep_busy(ctypes.c_void_p(stream.cuda_stream)) == 0
    busy = not stream.query()
    del tensor
    torch.cuda.empty_cache()
    return [busy, stream.query()]


def copy_back(name):
    return tensors[name][:4].cpu().tolist()


def run_python(seconds):
    """Run bytecode for a while, as a busy serving loop does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.005)


def worst_gap(allocations):
    """Allocate new segments; return for how long another Python thread stood still, at most."""
    gaps = [0.0]
    done = threading.Event()

    def watch():
        before = time.monotonic()
        while not done.is_set():
            time.sleep(0.005)
            now = time.monotonic()
            gaps.append(now - before)
            before = now

    watcher = threading.Thread(target=watch)
    watcher.start()
    for index in range(allocations):
        malloc(f"gap {index}", (64 + 2 * index) << 20)
    done.set()
    watcher.join()
    return max(gaps)


def fork():
    """Return what CUDA says in a child of fork."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        runtime = ctypes.CDLL("libcudart.so." + torch.version.cuda.split(".")[0])
        memory = ctypes.c_void_p()
        status = runtime.cudaMalloc(ctypes.byref(memory), ctypes.c_size_t(1 << 20))
        os.write(writer, str(status).encode())
        sys.exit(0)  # not os._exit: exit handlers must not give the parent's memory back
    os.waitpid(child, 0)
    return int(os.read(reader, 16))


def churn(threads, rounds):
    """Allocate and release segments on every device from several threads at once."""

    def work(seed):
        for step in range(rounds):
            size = (21 + (seed * 7 + step) % 40) << 20
            tensor = torch.empty(size, dtype=torch.uint8, device=f"cuda:{(seed + step) % 2}")
            tensor[:4].fill_(1)
            del tensor
            if step % 5 == 0:
                torch.cuda.empty_cache()

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    torch.cuda.empty_cache()


OPERATIONS = {
    "malloc": malloc,
    "free": free,
    "copy_back": copy_back,
    "see_busy_stream": see_busy_stream,
    "free_beside_busy_stream": free_beside_busy_stream,
    "run_python": run_python,
    "worst_gap": worst_gap,
    "fork": fork,
    "churn": churn,
    "empty_cache": torch.cuda.empty_cache,
    "stats": lambda device=0: torch.cuda.memory_stats_as_nested_dict(device),
    "snapshot": torch.cuda.memory_snapshot,
    "free_bytes": lambda: torch.cuda.mem_get_info()[0],
    "device_names": lambda: [
        str(torch.cuda.get_device_properties(index).uuid)
        for index in range(torch.cuda.device_count())
    ],
    "is_available": torch.cuda.is_available,
}

for line in sys.stdin:
    operation, *arguments = json.loads(line)
    try:
        answer = OPERATIONS[operation](*arguments)
    except RuntimeError as error:
        answer = {"error": type(error).__name__, "text": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
