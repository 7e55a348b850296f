"""A detector is run for whoever asks; what it could not look at is unknown, never OK."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors import DETECTORS, Detector
from gpuward.agent.kind import Kind
from gpuward.agent.model import (
    Action,
    CauseDomain,
    Driver,
    Evidence,
    Finding,
    FindingClass,
    Gpu,
    Outcome,
    Process,
    Result,
    Subject,
)
from gpuward.agent.run_check import run_check
from gpuward.agent.window import Window

KIND = Kind(
    name="gpu.test",
    default_class=FindingClass.STORE,
    domain=CauseDomain.GPU,
    action=Action.NONE,
    meaning="A test.",
)
FACT = Evidence("gpu_temperature_celsius", 91.0, "celsius", threshold=90.0)
GPUS = (Gpu("GPU-1", 0, "H100", "1B"), Gpu("GPU-2", 1, "H100", "1C"))
ANY = Subject()


def window(*, up=True, gpus=GPUS, reason=""):
    driver = Driver(up=up, reason=reason)
    return Window.of(now_s=1_000.0, gpus=gpus, processes=[Process("p", 7, 1)], driver=driver)


def found(gpu="GPU-1", **changes):
    return Finding(
        **{"kind": "gpu.test", "summary": f"{gpu} is hot", "subject": Subject(gpu=gpu)} | changes
    )


def check(components, *findings, kind="gpu.test", subject=ANY, seen=None):
    detector = Detector(KIND, lambda _: iter(findings))
    return run_check(kind, subject, seen or window(), components, (detector,))


@pytest.mark.parametrize(
    ("findings", "result"),
    [
        pytest.param([], Result.OK, id="nothing found"),
        pytest.param([found()], Result.FAIL, id="bad"),
        pytest.param([found(result=Result.WARN)], Result.WARN, id="a warning"),
        pytest.param([found(outcome=Outcome.DOUBTFUL)], Result.WARN, id="between the limits"),
        pytest.param([found(outcome=Outcome.UNKNOWN)], Result.UNKNOWN, id="could not look"),
        pytest.param([found(result=Result.OK)], Result.OK, id="evidence only"),
        pytest.param([found(result=Result.WARN), found("GPU-2")], Result.FAIL, id="the worst"),
        pytest.param(
            [found(outcome=Outcome.UNKNOWN), found(result=Result.WARN)],
            Result.WARN,
            id="what is seen is louder than what is not",
        ),
    ],
)
def test_result(components, findings, result):
    assert check(components, *findings).result is result


def test_evidence_begins_with_what_it_is_of(components):
    checked = check(components, found(evidence=(FACT,)))

    assert [(fact.name, fact.text) for fact in checked.evidence] == [
        ("gpu.test", "GPU-1 is hot"),
        ("gpu_temperature_celsius", ""),
    ]
    assert checked.reason == ""


def test_of_another_subject_nothing_is_said(components):
    checked = check(components, found(), subject=Subject(gpu="GPU-2"))

    assert (checked.result, checked.evidence) == (Result.OK, ())


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        pytest.param({"kind": "gpu.nonsense"}, "there are: gpu.test", id="no such check"),
        pytest.param({"subject": Subject(gpu="GPU-9")}, "no GPU of that UUID", id="no such GPU"),
        pytest.param({"subject": Subject(process="q")}, "no process", id="no such process"),
        pytest.param({"seen": window(gpus=())}, "no GPU is seen", id="no GPU at all"),
        pytest.param({"seen": window(up=False, reason="hung")}, "answer: hung", id="driver hung"),
    ],
)
def test_what_cannot_be_looked_at_is_unknown(components, case, reason):
    checked = check(components, **case)

    assert checked.result is Result.UNKNOWN
    assert reason in checked.reason


def test_a_detector_that_fails_is_contained(components):
    def fail(_):
        raise RuntimeError("broken")

    checked = run_check("gpu.test", ANY, window(), components, (Detector(KIND, fail),))

    assert (checked.result, checked.evidence) == (Result.UNKNOWN, ())
    assert "failed" in checked.reason
    assert [part.result for part in components.health] == [Result.FAIL]


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda detector: detector.kind.name)
def test_every_detector_can_be_asked_of_a_node_that_just_started(components, detector):
    checked = run_check(detector.kind.name, ANY, window(), components)

    assert "the check failed" not in checked.reason
    assert (checked.result is Result.UNKNOWN) == bool(checked.reason)
