"""An engine that starts, as far as the memory of its GPU goes: with vLLM's two checks.

    python engine.py GPU-INDEX START-SECONDS

It takes a context, remembers what is free, ends unless its share of the GPU is, loads its weights,
works once at full size, and ends when more is free then than was at first: somebody gave memory
back, and its sums are wrong.  (vLLM: ``request_memory`` in v1/worker/utils.py and
``determine_available_memory`` in v1/worker/gpu_worker.py.)  The smaller the model, the less has to
be given back for that, so this one is small.  Prints ``ready`` or why it failed, then lives until
its input ends.
"""

from __future__ import annotations

import os
import random
import sys
import time

from gpuward.simulator.state import State

MIB = 1 << 20
UTILIZATION = 0.9
CONTEXT_BYTES = 500 * MIB
WEIGHTS_BYTES, WEIGHT_STEPS = 128 * MIB, 8
ACTIVATIONS_BYTES = 512 * MIB
# Of a start: weights, compilation, profiling run, graphs.
LOADING, COMPILING, PROFILING, CAPTURING = 0.4, 0.3, 0.2, 0.1


class StartError(Exception):
    """What an engine would end with."""


def start(state: State, gpu: int, took_s: float) -> None:
    """Go through a start that lasts ``took_s``; raises ``StartError``."""
    pid = os.getpid()

    def take(size: int) -> None:
        if not state.take(gpu, pid, size):
            raise StartError(f"out of memory: {size // MIB} MiB are not free")

    take(CONTEXT_BYTES)
    before = state.free_bytes(gpu)
    requested = int(UTILIZATION * state.gpu(gpu).memory_total_bytes)
    if before < requested:
        raise StartError(f"{before // MIB} MiB are free, less than {requested // MIB} requested")
    for _ in range(WEIGHT_STEPS):
        take(WEIGHTS_BYTES // WEIGHT_STEPS)
        time.sleep(LOADING * took_s / WEIGHT_STEPS)
    time.sleep(COMPILING * took_s)
    take(ACTIVATIONS_BYTES)
    time.sleep(PROFILING * took_s)
    state.give_back(gpu, pid, ACTIVATIONS_BYTES)
    after = state.free_bytes(gpu)
    if before < after:
        raise StartError(f"{before // MIB} MiB were free, now {after // MIB}: somebody gave back")
    take(requested - CONTEXT_BYTES - WEIGHTS_BYTES)
    time.sleep(CAPTURING * took_s)


def main() -> None:
    gpu, start_s = int(sys.argv[1]), float(sys.argv[2])
    state = State.open()
    try:
        start(state, gpu, start_s * random.uniform(0.8, 1.2))
    except StartError as error:
        print(f"failed: {error}", flush=True)
        return
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
