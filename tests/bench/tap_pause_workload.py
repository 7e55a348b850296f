"""Hold the allocator's lock for a while in every window, and say how long Python stood still.

``tap_pause_workload.py DIRECTORY KIND`` says when it is ready; from then on it answers each line on
standard input with one object, after a window of a second.  ``KIND``: ``none``, ``hook``,
``pending`` (the tap), ``poll`` (a thread that asks the allocator as a naive exporter would).
"""

from __future__ import annotations

import json
import sys
import threading
import time
import types

import torch
from gpuward.tap.ticker import Ticker
from gpuward.tap.torch_source import TorchSource

PERIOD_S = 0.02
WINDOW_S = 1.0
STEP_S = 0.01
# The step of a window that needs a new segment.
SLOW_STEP = 20
SEGMENT_BYTES = 21 << 20


class Worker:
    """Steps as an inference engine does; with a name that the tap knows where it shall."""

    def __init__(self) -> None:
        self._held: list[torch.Tensor] = []

    def execute_model(self, step: int) -> None:
        if step == SLOW_STEP:
            self._held.append(torch.empty(SEGMENT_BYTES, dtype=torch.uint8, device="cuda"))
        time.sleep(STEP_S)


class Pauses:
    """A thread that does nothing but look at the clock."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        before_s = time.monotonic()
        while True:
            time.sleep(0.001)
            now_s = time.monotonic()
            self.worst_s = max(self.worst_s, now_s - before_s)
            before_s = now_s


def poll() -> None:
    while True:
        torch.cuda.memory_stats_as_nested_dict(0)
        time.sleep(PERIOD_S)


def prepare(directory: str, kind: str) -> None:
    torch.empty(1, device="cuda")
    if kind == "hook":
        engine = types.ModuleType("vllm.v1.worker.gpu_worker")
        engine.Worker = Worker
        sys.modules[engine.__name__] = engine
    if kind == "poll":
        threading.Thread(target=poll, daemon=True).start()
    if kind in ("hook", "pending"):
        # Fifty times as often as it does for users, so that each window has ticks inside the lock.
        Ticker(directory, TorchSource(torch), PERIOD_S).start()


def main(directory: str, kind: str) -> None:
    prepare(directory, kind)
    worker, pauses = Worker(), Pauses()
    print(json.dumps("ready"), flush=True)
    for _ in sys.stdin:
        pauses.worst_s = slowest_s = 0.0
        ends_s = time.monotonic() + WINDOW_S
        step = 0
        while time.monotonic() < ends_s:
            began_s = time.monotonic()
            worker.execute_model(step)
            slowest_s = max(slowest_s, time.monotonic() - began_s)
            step += 1
        print(json.dumps({"pause": pauses.worst_s, "slowest step": slowest_s}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
