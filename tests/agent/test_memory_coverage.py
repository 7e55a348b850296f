"""Less is in sight than before."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.memory_coverage import detect
from gpuward.agent.model import Gpu, Sample, SeriesKey
from gpuward.agent.window import Window

NOW = 10_000.0
H100 = Gpu("GPU-1", 0, "H100", "0")


def window(*ratios_by_s_ago):
    key = SeriesKey("gpu_memory_tapped_ratio", gpu="GPU-1")
    samples = [Sample(key, NOW - ago, ratio) for ago, ratio in ratios_by_s_ago]
    return Window.of(samples, now_s=NOW, gpus=[H100])


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
