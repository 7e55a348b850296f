"""The tap in processes shaped like workers of vLLM and SGLang, found by the engines' own plugins.

The stand-ins load plugins as the engines do (``vllm.plugins.load_general_plugins``, SGLang's
``load_plugins``) and step in a thread that is not the main one, which only waits in C.
"""

from __future__ import annotations

import pytest

LOAD = """
    from importlib.metadata import entry_points
    def load(group):
        try:
            found = entry_points(group=group)
        except TypeError:  # CPython 3.9
            found = entry_points().get(group, ())
        for entry_point in found:
            entry_point.load()()
"""
ENGINES = {
    "vllm": {
        "vllm/__init__.py": "__version__ = '0.32.0'",
        "vllm/plugins.py": LOAD + "\n    load('vllm.general_plugins')",
        "vllm/v1/worker/gpu_worker.py": """
            import threading
            class Worker:
                def execute_model(self, scheduler_output):
                    return [scheduler_output, threading.current_thread().name]
        """,
    },
    "sglang": {
        "sglang/__init__.py": "__version__ = '0.5.23'",
        "sglang/srt/plugins.py": LOAD + "\n    load('sglang.srt.plugins')",
        "sglang/srt/managers/scheduler.py": """
            import threading
            class Scheduler:
                def run_batch(self, batch):
                    return [batch, threading.current_thread().name]
        """,
    },
}
STEPS = {
    "vllm": "import vllm.plugins; from vllm.v1.worker.gpu_worker import Worker as Engine\n"
    "def step(number): return Engine().execute_model(number)",
    "sglang": "import sglang.srt.plugins; from sglang.srt.managers.scheduler import Scheduler\n"
    "def step(number): return Scheduler().run_batch(number)",
}
WORK = """
import ctypes, os, threading, time, torch
STEP
torch.cuda.init()
said = []
def work():
    for number in range(250):
        time.sleep(0.01)
        said.append(step(number))
worker = threading.Thread(target=work, name="worker")
worker.start()
while worker.is_alive():
    ctypes.CDLL(None).usleep(20_000)
assert said == [[number, "worker"] for number in range(250)]
asked_by = sorted(set(torch.cuda.asked_by) - {"MainThread"})
print(asked_by, len(os.listdir(os.environ["GPUWARD_TAP_DIR"])))
"""


@pytest.fixture(params=["vllm", "sglang"])
def engine(host, request):
    host.add(ENGINES[request.param])
    return request.param


@pytest.mark.parametrize("autoload", ["0", "1"], ids=["by the engine's plugin", "by torch too"])
def test_the_thread_that_steps_publishes(host, engine, autoload):
    script = WORK.replace("STEP", STEPS[engine])

    assert host.run(script, TORCH_DEVICE_BACKEND_AUTOLOAD=autoload) == (0, "['worker'] 1\n", "")


@pytest.mark.parametrize(
    "env",
    [
        pytest.param({"GPUWARD_TAP_DISABLE": "1"}, id="disabled"),
        pytest.param({"GPUWARD_TAP_ALLOW": "other"}, id="not on the list"),
        pytest.param({"GPUWARD_TAP_SHARE": "0"}, id="not in the share"),
    ],
)
def test_a_tap_that_is_not_wanted_leaves_the_engine_alone(host, engine, env):
    script = WORK.replace("STEP", STEPS[engine])

    assert host.run(script, **env) == (0, "[] 0\n", "")


def test_a_service_on_the_list_takes_part(host, engine):
    script = WORK.replace("STEP", STEPS[engine])
    env = {"GPUWARD_TAP_ALLOW": "chat*,embed", "GPUWARD_TAP_SERVICE": "chat-7b"}

    assert host.run(script, **env) == (0, "['worker'] 1\n", "")
