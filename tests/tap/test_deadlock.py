"""The deadlock rule, on an allocator that really takes the GIL while it holds its lock.

vLLM's sleep mode does so inside torch's allocator.  Whoever then asks for statistics keeps the GIL
and waits for the lock, and the process stands still for good.
"""

from __future__ import annotations

import subprocess

import pytest

# A worker thread allocates all the time, the main thread runs Python; done after three ticks, or
# with UNTIL_ASKED as soon as the tap has asked.
HOST = """
import ctypes, os, sys, threading, time, types, torch
library = os.environ["ALLOCATOR"]
allocate = ctypes.CDLL(library).allocate
statistics = ctypes.PyDLL(library).statistics
raw_alloc = ctypes.CFUNCTYPE(None)(lambda: time.sleep(0.02))
def stats(device):
    torch.cuda.asked_by.append(threading.current_thread().name)
    return {"reserved_bytes": {"all": {"current": statistics(), "allocated": 1}}}
torch.cuda.memory_stats_as_nested_dict = stats
engine = types.ModuleType("vllm.v1.worker.gpu_worker")
class Worker:
    def execute_model(self):
        allocate(raw_alloc)
engine.Worker = Worker
end = time.monotonic() + 3.5
def work():
    asks = "UNTIL_ASKED" in os.environ
    while not torch.cuda.asked_by if asks else time.monotonic() < end:
        Worker().execute_model()
worker = threading.Thread(target=work, name="worker", daemon=True)
MODULES
torch.cuda.init()
worker.start()
while worker.is_alive():
    time.sleep(0.005)
print(sorted(set(torch.cuda.asked_by)))
"""
SLEEP_MODE = 'sys.modules["vllm.device_allocator.cumem"] = types.ModuleType("cumem")'
ENGINE = "sys.modules[engine.__name__] = engine"


@pytest.mark.parametrize(
    ("modules", "asked_by"),
    [
        pytest.param(SLEEP_MODE, [], id="nobody knows when it is safe"),
        pytest.param(f"{SLEEP_MODE}; {ENGINE}", ["worker"], id="after the engine's step it is"),
    ],
)
def test_an_allocator_that_takes_the_gil(host, library, modules, asked_by):
    env = {"ALLOCATOR": str(library("tap/gil_allocator"))} | (
        {"UNTIL_ASKED": "1"} if asked_by else {}
    )

    assert host.run(HOST.replace("MODULES", modules), **env) == (0, f"{asked_by}\n", "")


def test_an_allocator_that_is_not_known_to_would_hang(host, library):
    """So the two tests above would have failed without the rule."""
    process = host.start(HOST.replace("MODULES", ""), ALLOCATOR=str(library("tap/gil_allocator")))
    with process:
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                process.communicate(timeout=8)
        finally:
            process.kill()
