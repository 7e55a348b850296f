"""Memory of a GPU that nobody is known to hold."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.memory_unattributed import detect
from gpuward.agent.model import Gpu, Process, Sample, SeriesKey
from gpuward.agent.window import Window

GIB = 2**30
NOW = 1_000.0
H100 = Gpu("GPU-1", 0, "NVIDIA H100 80GB HBM3", "00000000:1B:00.0")


def window(*gib, processes=2, late_s=0.0, zombies=None, here=()):
    """One value every five seconds, the last ``late_s`` ago; ``here``: keys of processes."""
    samples = [
        Sample(
            SeriesKey("gpu_memory_unattributed_bytes", gpu="GPU-1"),
            NOW - late_s - 5 * back,
            value * GIB,
        )
        for back, value in enumerate(reversed(gib))
    ]
    samples.append(Sample(SeriesKey("gpu_processes", gpu="GPU-1"), NOW, processes))
    if zombies is not None:
        key = SeriesKey("gpu_memory_zombie_bytes", gpu="GPU-1")
        samples.append(Sample(key, NOW, zombies * GIB))
    listed = [Process(key, pid, 0, ("GPU-1",)) for pid, key in enumerate(here, 70)]
    return Window.of(samples, now_s=NOW, gpus=[H100], processes=listed)


@pytest.mark.parametrize(
    ("gib", "expected"),
    [
        pytest.param([], ["unknown"], id="nobody has looked"),
        pytest.param([0, 0, 0], [], id="none"),
        pytest.param([0.8, 0.8, 0.8], [], id="context and bookkeeping"),
        pytest.param([0.81, 0.81, 0.81], ["doubtful"], id="more than that"),
        pytest.param([1, 1, 1], ["doubtful"], id="a GiB"),
        pytest.param([1.01, 1.01, 1.01], ["bad"], id="over a GiB"),
        pytest.param([9, 9], ["doubtful"], id="in two listings only"),
        pytest.param([9, 0, 9], ["doubtful"], id="not in the one between"),
        pytest.param([9, 9, 9, 0], [], id="given back"),
    ],
)
def test_detect(gib, expected):
    """More than a GiB in three listings raises; below 0.8 GiB clears."""
    assert expected == [finding.outcome.value for finding in detect(window(*gib))]


@pytest.mark.parametrize(
    ("late_s", "expected"),
    [pytest.param(30, "bad", id="fresh"), pytest.param(30.1, "unknown", id="stale")],
)
def test_silence_is_unknown(late_s, expected):
    (finding,) = detect(window(9, 9, 9, late_s=late_s))

    assert expected == finding.outcome.value


@pytest.mark.parametrize(
    ("processes", "result", "action", "words"),
    [
        pytest.param(0, "fail", "reset_gpu", "although no process is there", id="of the dead"),
        pytest.param(
            1, "warn", "check_application", "that no known process holds", id="beside the living"
        ),
    ],
)
def test_memory_of_the_dead_needs_a_reset(processes, result, action, words):
    (finding,) = detect(window(9, 9, 9, processes=processes))

    assert (result, action) == (finding.result.value, finding.action.value)
    assert f"GPU 0 has 9.00 GiB of memory in use {words}." == finding.summary


@pytest.mark.parametrize(
    ("zombies", "result", "action", "words"),
    [
        pytest.param(
            0.8, "warn", "check_application", "that no known process holds", id="hardly any"
        ),
        pytest.param(
            0.81, "fail", "reset_gpu", "by processes that do not exist any more", id="more"
        ),
    ],
)
def test_memory_that_the_driver_books_on_the_dead(zombies, result, action, words):
    (finding,) = detect(window(9, 9, 9, zombies=zombies))

    assert (result, action) == (finding.result.value, finding.action.value)
    assert finding.summary.endswith(f"in use {words}.")


def test_the_dead_are_named_and_the_living_counted():
    here = ["unidentified", "vllm", "unidentified", "triton"]
    (finding,) = detect(window(9, 9, 9, zombies=9, processes=4, here=here))
    facts = {fact.name: fact for fact in finding.evidence}

    assert facts["zombie_pids"].text == "70, 72"
    assert facts["remedy_gpu_reset_bytes"].value == 9 * GIB
    assert "ends the 2 processes that are alive" in facts["remedy_gpu_reset_bytes"].text


def test_no_reset_is_advised_for_what_somebody_may_hold():
    (finding,) = detect(window(9, 9, 9))

    assert "remedy_gpu_reset_bytes" not in {fact.name for fact in finding.evidence}
