"""Less is in sight than before."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.memory_coverage import detect
from gpuward.agent.model import Gpu, Process, Sample, SeriesKey
from gpuward.agent.window import Window

GIB = 2**30
NOW = 10_000.0
H100 = Gpu("GPU-1", 0, "H100", "0")


def window(*ratios_by_s_ago, held=()):
    """``held``: what processes hold, as (key, GiB, engine, whether a tap file is there)."""
    key = SeriesKey("gpu_memory_tapped_ratio", gpu="GPU-1")
    samples = [Sample(key, NOW - ago, ratio) for ago, ratio in ratios_by_s_ago]
    samples += [
        Sample(SeriesKey("process_gpu_memory_bytes", gpu="GPU-1", process=name), NOW, gib * GIB)
        for name, gib, _, _ in held
    ]
    processes = [
        Process(name, pid, 5, ("GPU-1",), engine=engine, tapped=tapped)
        for pid, (name, _, engine, tapped) in enumerate(held)
    ]
    return Window.of(samples, now_s=NOW, gpus=[H100], processes=processes)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        pytest.param([], [], id="never looked at"),
        pytest.param([(0, 0.0)], [], id="blind all along"),
        pytest.param([(60, 1.0), (0, 0.81)], [], id="a little less"),
        pytest.param([(60, 1.0), (0, 0.79)], ["doubtful"], id="a fifth less"),
        pytest.param([(60, 1.0), (0, 0.76)], ["doubtful"], id="almost a quarter"),
        pytest.param([(60, 1.0), (0, 0.75)], ["bad"], id="a quarter"),
        pytest.param([(60, 1.0), (30, 0.0), (0, 1.0)], [], id="a restart, seen again"),
        pytest.param([(1_200, 1.0), (0, 0.0)], ["bad"], id="twenty minutes ago counts"),
        pytest.param([(1_201, 1.0), (0, 0.0)], [], id="longer ago does not"),
        pytest.param([(30, 1.0)], [], id="half a minute old"),
        pytest.param([(31, 1.0)], ["unknown"], id="stale"),
    ],
)
def test_detect(ratios, expected):
    assert expected == [finding.outcome.value for finding in detect(window(*ratios))]


def test_the_finding_tells_both_shares():
    (finding,) = detect(window((60, 0.9), (0, 0.4)))

    assert finding.summary == (
        "40% of the memory of GPU 0 is in sight of a tap; it was 90% within 20 minutes."
    )


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        pytest.param([("a", 10, "vllm", False)], ["doubtful"], id="no tap"),
        pytest.param([("a", 10, "vllm", True)], [], id="a tap is there"),
        pytest.param([("a", 10, "triton", False)], [], id="blind by nature"),
        pytest.param(
            [("a", 2, "vllm", False), ("b", 8, "triton", False)], ["doubtful"], id="a fifth"
        ),
        pytest.param([("a", 1.9, "vllm", False), ("b", 8.1, "triton", False)], [], id="less"),
    ],
)
def test_it_is_not_over_because_time_passes(held, expected):
    """Long after the fall what is open stays open, while a tap could mend it; nothing is raised."""
    found = detect(window((0, 0.0), held=held))

    assert expected == [finding.outcome.value for finding in found]


def test_the_finding_names_who_is_out_of_sight():
    """The largest first, with the reason; whoever is seen is not named."""
    held = [("a", 2, "vllm", True), ("b", 8, "triton", False), ("c", 1, "", False)]
    (finding,) = detect(window((60, 0.9), (0, 0.0), held=held))

    assert [fact.text for fact in finding.evidence[1:]] == [
        "b holds 8.00 GiB out of sight: no torch.",
        "a holds 2.00 GiB out of sight: silent tap.",
        "c holds 1.00 GiB out of sight: no tap.",
    ]
