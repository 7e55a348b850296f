"""Two settings that are good alone and bad together."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.memory_allocator_conf import detect
from gpuward.agent.model import Process, Sample, SeriesKey
from gpuward.agent.window import Window

MIB = 2**20
GIB = 2**30
NOW = 1_000.0
VLLM = Process("vllm:llama", 77, 5, gpus=("GPU-1",), tapped=True)


def window(*, age_s=0.0, process=VLLM, **figures):
    samples = [
        Sample(
            SeriesKey(f"process_memory_{name}", gpu="GPU-1", process=VLLM.key), NOW - age_s, value
        )
        for name, value in figures.items()
    ]
    return Window.of(samples, now_s=NOW, processes=[process])


BOTH = {"expandable_segments": 1, "max_split_size_bytes": 256 * MIB}


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        pytest.param(BOTH, ["bad"], id="both"),
        pytest.param({"expandable_segments": 1}, [], id="expandable alone"),
        pytest.param(BOTH | {"expandable_segments": 0}, [], id="max split alone"),
        pytest.param(BOTH | {"age_s": 10.0}, ["bad"], id="fresh"),
        pytest.param(BOTH | {"age_s": 10.1}, ["unknown"], id="stale"),
        pytest.param({}, ["unknown"], id="not told"),
        pytest.param(BOTH | {"process": Process(VLLM.key, 77, 5, ("GPU-1",))}, [], id="no tap"),
    ],
)
def test_detect(figures, expected):
    assert expected == [finding.outcome.value for finding in detect(window(**figures))]


def test_the_finding_tells_the_setting_and_what_its_going_wins():
    cache = {
        "reserved_bytes": 14_060 * MIB,
        "stranded_bytes": 10_000 * MIB,
        "releasable_bytes": 3_794 * MIB,
    }
    (finding,) = detect(window(**BOTH, **cache))

    assert finding.summary == (
        "Process vllm:llama has expandable_segments and max_split_size_mb (256) set: together they"
        " let its cache grow without bound."
    )
    assert [(one.name, one.value) for one in finding.evidence] == [
        ("process_memory_expandable_segments", 1),
        ("process_memory_max_split_size_bytes", 256 * MIB),
        ("process_memory_reserved_bytes", 14_060 * MIB),
        ("remedy_without_max_split_size_bytes", 13_794 * MIB),
    ]


def test_before_anything_is_lost_nothing_is_won():
    cache = {"reserved_bytes": GIB, "stranded_bytes": 0, "releasable_bytes": 0}
    (finding,) = detect(window(**BOTH, **cache))

    assert "process_memory_reserved_bytes" == finding.evidence[-1].name
