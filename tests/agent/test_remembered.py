"""What is worked out once: as often as there is something new to work it out from."""

from __future__ import annotations

import pytest

from gpuward.agent.model import Batch, Gpu, Process
from gpuward.agent.remembered import once_a_window, once_an_inventory
from gpuward.agent.window import Readings

GPUS = (Gpu("GPU-1", 0, "H100", "0"),)
VLLM = Process(key="vllm", pid=1, start_ticks=9, gpus=("GPU-1",))


def readings_of(*batches, now_s=1_000.0):
    readings = Readings()
    for source, batch in batches:
        readings.apply(source, batch, now_s)
    return readings


def test_once_for_each_window_and_argument():
    asked = []

    @once_a_window
    def ask(window, process, gpu=""):
        asked.append((window.now_s, process, gpu))
        return None if process == "nobody" else process

    readings = readings_of()
    for now_s in (1.0, 2.0):
        window = readings.window(now_s)
        answers = [ask(window, name) for name in ("a", "nobody", "a", "nobody")]
        assert answers == ["a", None, "a", None]
        ask(window, "a", gpu="GPU-1")

    assert asked == [
        (now_s, *what)
        for now_s in (1.0, 2.0)
        for what in (("a", ""), ("nobody", ""), ("a", "GPU-1"))
    ]


@pytest.mark.parametrize(
    ("batch", "is_same"),
    [
        pytest.param(Batch(), True, id="nothing said"),
        pytest.param(Batch(gpus=GPUS, processes=(VLLM,)), True, id="the same said again"),
        pytest.param(
            Batch(processes=(Process("vllm", 1, 9, ("GPU-1",)),)), True, id="in other objects"
        ),
        pytest.param(Batch(processes=()), False, id="a process ended"),
        pytest.param(Batch(processes=(VLLM, Process("b", 2, 9))), False, id="a process began"),
        pytest.param(
            Batch(processes=(Process("vllm", 1, 9, ("GPU-1",), tapped=True),)),
            False,
            id="a process changed",
        ),
        pytest.param(Batch(gpus=(*GPUS, Gpu("GPU-2", 1, "H100", "1"))), False, id="a GPU came"),
    ],
)
def test_an_inventory_lives_while_nothing_changes(batch, is_same):
    """What is found out about it lives as long, and no longer."""
    asked = []

    @once_an_inventory
    def names(window):
        asked.append(window.now_s)
        return [process.key for process in window.processes]

    readings = readings_of(("nvml", Batch(gpus=GPUS, processes=(VLLM,))))
    before = names(readings.window(1_000.0))
    readings.apply("nvml", batch, 1_001.0)
    after = names(readings.window(1_001.0))

    assert before == ["vllm"]
    assert (after is before) == is_same
    assert len(asked) == (1 if is_same else 2)


def test_who_fell_silent_is_not_remembered():
    """A minute after its last word a sampler's processes are gone, though nothing new was said."""
    readings = readings_of(("nvml", Batch(processes=(VLLM,))))

    assert readings.window(1_060.0).processes == (VLLM,)
    assert readings.window(1_060.1).processes == ()


def test_the_same_again_keeps_a_sampler_alive():
    readings = readings_of(("nvml", Batch(processes=(VLLM,))))
    readings.apply("nvml", Batch(processes=(VLLM,)), 1_050.0)

    assert readings.window(1_110.0).processes == (VLLM,)
