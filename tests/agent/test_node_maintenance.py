"""Maintenance is told as what explains the rest, and the rest is evidence only while it lasts."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.node_maintenance import KIND, detect
from gpuward.agent.kinds import class_of
from gpuward.agent.maintenance import Maintenance, marked
from gpuward.agent.model import (
    CauseDomain,
    Driver,
    Event,
    Finding,
    FindingClass,
    Outcome,
    Result,
    Subject,
)
from gpuward.agent.one_shot import one_shot
from gpuward.agent.window import NOT_LOOKED, Window

RELEASE = Maintenance(900.0, 2_700.0, "driver 590", is_release=True)
# NVML ends some of its sentences with a full stop, and some not.
RELOAD = Maintenance(900.0, 1_500.0, "the driver leaves.")


def window(maintenance, **driver):
    driver = {"up": False, "reason": "released", "maintenance": maintenance} | driver
    return Window.of(now_s=1_000.0, driver=Driver(**driver))


def test_no_maintenance_no_finding():
    assert list(detect(window(None))) == []


@pytest.mark.parametrize(
    ("maintenance", "left_s", "who"),
    [
        pytest.param(RELEASE, 1_700.0, "a person", id="release"),
        pytest.param(RELOAD, 500.0, "the driver", id="reload"),
    ],
)
def test_it_says_why_until_when_and_who(maintenance, left_s, who):
    (finding,) = detect(window(maintenance))

    assert finding.summary == f"Maintenance: {maintenance.reason.rstrip('.')}."
    assert finding.since_s == 900.0
    assert [(fact.value, fact.text) for fact in finding.evidence] == [(left_s, ""), (0.0, who)]
    assert class_of(finding) is FindingClass.STORE


def test_nobody_looked_is_unknown():
    findings = detect(Window.of(now_s=1_000.0, driver=NOT_LOOKED))

    assert [finding.outcome for finding in findings] == [Outcome.UNKNOWN]


@pytest.mark.parametrize(
    ("domain", "maintenance", "is_marked"),
    [
        pytest.param(CauseDomain.GPU, RELEASE, True, id="a GPU"),
        pytest.param(CauseDomain.DRIVER, RELOAD, True, id="the driver"),
        pytest.param(CauseDomain.CAPACITY, RELEASE, False, id="an engine's memory is no hardware"),
        pytest.param(CauseDomain.MODEL, RELEASE, False, id="a model is none either"),
        pytest.param(CauseDomain.GPU, None, False, id="no maintenance"),
    ],
)
def test_hardware_is_evidence_only(domain, maintenance, is_marked):
    """What is marked names the maintenance as its cause, and is stored."""
    finding = marked(Finding("gpu.lost", Subject(gpu="GPU-1"), "Gone."), domain, maintenance)

    assert finding.in_maintenance is is_marked
    assert finding.causes == (("node.maintenance||||",) if is_marked else ())
    assert class_of(finding) is (FindingClass.STORE if is_marked else FindingClass.PAGE)


def test_the_cause_is_the_key_of_the_finding():
    (finding,) = detect(window(RELEASE))

    assert finding.dedup_key == "node.maintenance||||"
    assert finding.kind == KIND.name


@pytest.mark.parametrize(
    ("maintenance", "expected"),
    [
        pytest.param(None, FindingClass.PAGE, id="fell off the bus"),
        pytest.param(RELEASE, FindingClass.STORE, id="was reset on purpose"),
    ],
)
def test_what_happens_once_is_judged_when_it_happens(maintenance, expected):
    """An event may reach the coordinator after the maintenance: its class travels with it."""
    event = Event("gpu.xid", 999.0, "kmsg:1", code=79, gpu="GPU-1", text="fallen off the bus")
    opened = one_shot(event, window(maintenance), "f-1")

    assert opened.finding.result is Result.FAIL
    assert class_of(opened.finding) is expected
