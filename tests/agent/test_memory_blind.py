"""A process that holds memory and shows nobody what for."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.memory_blind import detect
from gpuward.agent.model import Process, Sample, SeriesKey
from gpuward.agent.window import Window

GIB = 2**30
NOW = 1_000.0
GPU = "GPU-1"
KEY = "triton"


def test_the_dead_are_not_blind():
    """What they hold is nobody's, and another finding."""
    samples = [
        Sample(SeriesKey("process_gpu_memory_bytes", gpu=GPU, process="unidentified"), NOW, GIB),
        Sample(SeriesKey("gpu_memory_zombie_bytes", gpu=GPU), NOW, GIB),
    ]
    process = Process("unidentified", 77, 0, gpus=(GPU,))

    assert list(detect(Window.of(samples, now_s=NOW, processes=[process]))) == []
    # Where zombies are not told, it is a process that the agent may not see.
    assert list(detect(Window.of(samples[:1], now_s=NOW, processes=[process])))


def window(
    *, held=None, held_late_s=0.0, reserved_late_s=None, tapped=False, engine="", degraded=False
):
    samples = []
    if held is not None:
        key = SeriesKey("process_gpu_memory_bytes", gpu=GPU, process=KEY)
        samples.append(Sample(key, NOW - held_late_s, held))
    if reserved_late_s is not None:
        key = SeriesKey("process_memory_reserved_bytes", gpu=GPU, process=KEY)
        samples.append(Sample(key, NOW - reserved_late_s, GIB))
    if degraded:
        samples.append(Sample(SeriesKey("process_tap_degraded", gpu=GPU, process=KEY), NOW, 1.0))
    process = Process(KEY, 77, 5, gpus=(GPU,), tapped=tapped, engine=engine)
    return Window.of(samples, now_s=NOW, processes=[process])


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param({"held": GIB}, [("bad", "it has no tap")], id="no tap"),
        pytest.param(
            {"held": GIB, "engine": "triton"},
            [("bad", "triton has no allocator that a tap could ask")],
            id="C++",
        ),
        pytest.param({"held": GIB, "engine": "vllm"}, [("bad", "it has no tap")], id="Python"),
        pytest.param({"held": GIB - 1}, [], id="a context alone is not worth a word"),
        pytest.param(
            {"held": GIB, "tapped": True},
            [("bad", "its tap says nothing new")],
            id="silent",
        ),
        pytest.param(
            {"held": GIB, "tapped": True, "degraded": True},
            [("bad", "its tap must not ask its allocator")],
            id="degraded",
        ),
        pytest.param({"held": GIB, "tapped": True, "reserved_late_s": 10}, [], id="seen"),
        pytest.param(
            {"held": GIB, "tapped": True, "reserved_late_s": 10.1},
            [("bad", "its tap says nothing new")],
            id="seen no more",
        ),
        pytest.param({}, [("unknown", "How much it holds is unknown")], id="not listed"),
        pytest.param({"held": GIB, "held_late_s": 30}, [("bad", "it has no tap")], id="fresh"),
        pytest.param(
            {"held": GIB, "held_late_s": 30.1},
            [("unknown", "How much it holds is unknown")],
            id="stale",
        ),
    ],
)
def test_detect(facts, expected):
    found = [
        (finding.outcome.value, finding.summary.rpartition(": ")[2].removesuffix("."))
        for finding in detect(window(**facts))
    ]
    assert expected == found
