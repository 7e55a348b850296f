"""Almost no memory left on a GPU."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.detectors.memory_saturation import detect
from gpuward.agent.model import Gpu, Outcome, Sample, SeriesKey
from gpuward.agent.window import Window

GIB = 2**30
H100 = Gpu("GPU-1", 0, "NVIDIA H100 80GB HBM3", "00000000:1B:00.0", serial="165")
BAD, DOUBTFUL, UNKNOWN = Outcome.BAD, Outcome.DOUBTFUL, Outcome.UNKNOWN


def window(free, used, gpus=(H100,), at_s=1_000.0):
    samples = [
        Sample(SeriesKey(f"gpu_memory_{name}_bytes", gpu="GPU-1"), at_s, value)
        for name, value in (("free", free), ("used", used))
        if value is not None
    ]
    return Window.of(samples, now_s=1_000.0, gpus=gpus)


@pytest.mark.parametrize(
    ("free", "used", "expected"),
    [
        pytest.param(80 * GIB, 0, [], id="idle"),
        pytest.param(10.0, 90.0, [], id="a vLLM server at its default"),
        pytest.param(5.0, 95.0, [], id="5 % is enough"),
        pytest.param(4.9, 95.1, [DOUBTFUL], id="between the limits: holds, does not open"),
        pytest.param(3.0, 97.0, [DOUBTFUL], id="3 % is doubtful still"),
        pytest.param(2.9, 97.1, [BAD], id="less is bad"),
        pytest.param(0.0, 100.0, [BAD], id="nothing left"),
        pytest.param(None, 100.0, [UNKNOWN], id="free is not known"),
        pytest.param(10.0, None, [UNKNOWN], id="used is not known"),
        pytest.param(0.0, 0.0, [UNKNOWN], id="no memory at all is no measurement"),
    ],
)
def test_detect(free, used, expected):
    """Free by used plus free: below 3 % bad, below 5 % doubtful."""
    assert [finding.outcome for finding in detect(window(free, used))] == expected


def test_stale_figures_are_unknown():
    """The driver hangs: what was full stays full until somebody has looked."""
    assert [f.outcome for f in detect(window(80.0, 20.0, at_s=989.9))] == [UNKNOWN]


def test_a_gpu_that_cannot_say_is_left_out():
    mute = Gpu("GPU-1", 0, "GB10", "0", unsupported=frozenset({"gpu_memory_free_bytes"}))

    assert list(detect(window(None, 100.0, gpus=(mute,)))) == []


def test_the_finding_names_the_card_and_the_figures():
    (finding,) = detect(window(1 * GIB, 79 * GIB))

    assert (finding.subject.gpu, finding.subject.gpu_serial) == ("GPU-1", "165")
    assert finding.summary == "GPU 0 has 1.0 GiB of memory left."
    assert [(e.name, e.value, e.unit, e.threshold) for e in finding.evidence] == [
        ("gpu_memory_free_ratio", 0.0125, "ratio", 0.03),
        ("gpu_memory_free_bytes", 1 * GIB, "bytes", None),
        ("gpu_memory_used_bytes", 79 * GIB, "bytes", None),
    ]


@given(st.floats(0, 100), st.floats(0, 100))
def test_less_memory_is_never_better(one, other):
    """More trouble never hides trouble."""
    order = {(): 0, (DOUBTFUL,): 1, (BAD,): 2}
    less, more = sorted((one, other))

    def badness(free):
        return order[tuple(f.outcome for f in detect(window(free, 100.0 - free)))]

    assert badness(less) >= badness(more)
