"""A GPU that is shared: bursts stand still while others have their turn."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.gpu_probe_preempted import detect
from gpuward.agent.model import Gpu, Outcome, Process, Sample, SeriesKey
from gpuward.agent.window import Window

NOW_S = 1_000.0
CARD = Gpu("GPU-1", 0, "H100", "1B")
VLLM, OTHER = (Process(key, pid, 1, ("GPU-1",)) for pid, key in enumerate(["vllm", "train"], 1))
WORKER = Process("gpuward-probe", 9, 1, ("GPU-1",), unit="gpuward-probe@GPU-1.service")
LONE_WORKER = Process("gpuward.agent.probe_worker", 9, 1, ("GPU-1",))


def window_of(gaps, processes=(VLLM, OTHER), step_s=10.0):
    first_s = NOW_S - step_s * (len(gaps) - 1)
    key = SeriesKey("gpu_probe_gap_ratio", gpu="GPU-1")
    samples = [Sample(key, first_s + step_s * at, gap) for at, gap in enumerate(gaps)]
    samples.append(Sample(SeriesKey("gpu_probe_longest_gap_seconds", gpu="GPU-1"), NOW_S, 0.002))
    return Window.of(samples, now_s=NOW_S, gpus=(CARD,), processes=processes)


@pytest.mark.parametrize(
    ("gaps", "outcome"),
    [
        pytest.param([0.0] * 12, None, id="alone"),
        pytest.param([0.9] * 4, None, id="four bursts are too few"),
        pytest.param([0.9] * 5, Outcome.BAD, id="five are enough"),
        pytest.param([0.049] * 12, None, id="hardly a gap"),
        pytest.param([0.05] * 12, Outcome.BAD, id="a twentieth of the time"),
        pytest.param([0.9] * 6 + [0.0] * 6, Outcome.BAD, id="in half of the bursts"),
        pytest.param([0.9] * 5 + [0.0] * 7, Outcome.DOUBTFUL, id="in fewer"),
        pytest.param([0.9] * 3 + [0.0] * 9, Outcome.DOUBTFUL, id="in a quarter"),
        pytest.param([0.9] * 2 + [0.0] * 10, None, id="in less than a quarter"),
        pytest.param([0.9] * 20 + [0.0] * 13, None, id="two minutes ago"),
    ],
)
def test_detect(gaps, outcome):
    assert [f.outcome for f in detect(window_of(gaps))] == ([outcome] if outcome else [])


@pytest.mark.parametrize(
    ("processes", "who"),
    [
        pytest.param((VLLM,), None, id="an engine that has the GPU to itself"),
        pytest.param((VLLM, WORKER), None, id="and our worker"),
        pytest.param((VLLM, LONE_WORKER), None, id="and our worker in no unit"),
        pytest.param((VLLM, OTHER, WORKER), "train, vllm", id="two"),
        pytest.param((WORKER,), "nobody that is known", id="somebody that is not seen"),
    ],
)
def test_who_shares_it(processes, who):
    findings = list(detect(window_of([0.5] * 12, processes)))

    assert [f.summary.partition("on it is ")[2] for f in findings] == ([f"{who}."] if who else [])
