"""A GPU that is shared: bursts stand still while others have their turn."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.gpu_probe_preempted import detect
from gpuward.agent.mig_device import MigDevice
from gpuward.agent.model import Gpu, Outcome, Process, Sample, SeriesKey
from gpuward.agent.window import Window

NOW_S = 1_000.0
CARD = Gpu("GPU-1", 0, "H100", "1B")
VLLM, OTHER = (Process(key, pid, 1, ("GPU-1",)) for pid, key in enumerate(["vllm", "train"], 1))
WORKER = Process("gpuward-probe", 9, 1, ("GPU-1",), unit="gpuward-probe@GPU-1.service")
LONE_WORKER = Process("gpuward.agent.probe_worker", 9, 1, ("GPU-1",))


def window_of(gaps, processes=(VLLM, OTHER), step_s=10.0, card=CARD, uuid="GPU-1"):
    first_s = NOW_S - step_s * (len(gaps) - 1)
    key = SeriesKey("gpu_probe_gap_ratio", gpu=uuid)
    samples = [Sample(key, first_s + step_s * at, gap) for at, gap in enumerate(gaps)]
    samples.append(Sample(SeriesKey("gpu_probe_longest_gap_seconds", gpu=uuid), NOW_S, 0.002))
    return Window.of(samples, now_s=NOW_S, gpus=(card,), processes=processes)


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


CUT = Gpu("GPU-1", 0, "H100", "1B", mig=(MigDevice("MIG-1", 1, 0), MigDevice("MIG-2", 2, 0)))


def inside(key, *slices, service=""):
    return Process(key, 1, 1, ("GPU-1",), slices=slices, service=service)


@pytest.mark.parametrize(
    ("processes", "outcome", "who"),
    [
        pytest.param(
            (inside("vllm", "MIG-1"), inside("train", "MIG-1")),
            Outcome.BAD,
            "train, vllm",
            id="two in the slice",
        ),
        pytest.param(
            (inside("vllm", "MIG-1"), inside("train", "MIG-2")), None, "", id="one in each"
        ),
        pytest.param(
            (inside("vllm", "MIG-1"), inside("train")), Outcome.UNKNOWN, "vllm", id="one is nowhere"
        ),
        pytest.param(
            (inside("vllm", "MIG-1"), inside("train", "MIG-1"), inside("third")),
            Outcome.BAD,
            "train, vllm",
            id="two in the slice, whatever the third",
        ),
        pytest.param((), Outcome.BAD, "nobody that is known", id="somebody that is not seen"),
        pytest.param(
            (inside("a", "MIG-2"), inside("b", "MIG-2")),
            Outcome.BAD,
            "nobody that is known",
            id="the two of the other slice are not it",
        ),
    ],
)
def test_mig_devices_take_no_turns_with_one_another(processes, outcome, who):
    """Each is judged by its own worker, and by the processes that NVML says are in it."""
    found = list(detect(window_of([0.5] * 12, processes, card=CUT, uuid="MIG-1")))

    said = [(f.outcome, f.subject.gpu, f.summary.partition("on it is ")[2]) for f in found]
    assert said == ([(outcome, "MIG-1", f"{who}.")] if outcome else [])


def test_a_card_that_is_cut_is_judged_by_its_slices_alone():
    """What was measured before it was cut says nothing of it any more."""
    assert not list(detect(window_of([0.9] * 12, card=CUT)))


def test_whom_it_hurts_is_the_service_of_the_slice():
    both = (inside("a", "MIG-1", service="chat"), inside("b", "MIG-1", service="chat"))
    (found,) = detect(window_of([0.9] * 12, (*both, inside("c", "MIG-2")), card=CUT, uuid="MIG-1"))

    assert found.subject.service == "chat"
