"""What a page says of a diagnosis, and how the timeline tells that it has changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuward.coordinator import events as e
from gpuward.coordinator.diagnosis.values import Case, Diagnosis, Scope
from gpuward.coordinator.incident import apply, decide
from gpuward.coordinator.model import Action, CauseDomain, Page, Until
from gpuward.coordinator.page import as_text, render
from gpuward.coordinator.review.wording import describe

OVERLOAD = Diagnosis(
    "overload",
    Scope.ALL,
    "overload at all 4 replicas",
    "Overload at all 4 replicas; besides, a lost GPU at n9.",
    0.9,
    5.0,
    domain=CauseDomain.CAPACITY,
    action=Action.SCALE_UP,
    advice="add replicas",
    supports=("4 of 4 replicas tell the same", "b", "c", "d"),
    contradicts=("not so: prompts are longer",),
    ruled_out=("a slow upstream: 4 nodes say no",),
    suspects=("1 of 4 replicas had begun anew",),
)
UNKNOWN = Diagnosis(
    "undetermined",
    Scope.NONE,
    "undetermined: overload or a change",
    "Why is undetermined: overload or a change.",
    0.0,
    5.0,
    next_test="roll one replica back",
)
FIRST_LINE = "SEV2 chat: 20.0% of 600 requests failed, overload at all 4 replicas since 08:00 UTC"
CASE = Case("chat", 1.0, 5.0)


def message(make, diagnosis):
    cause = make.finding(summary="prompts are longer", action=Action.CHECK_APPLICATION)
    incident = replace(make.incident(), diagnosis=diagnosis, findings=(make.linked(cause),))
    page = Page(7, incident.id, "L1", "ann", "pager", "inc-1-L1", Until.ACKNOWLEDGED, make.now_s)
    return render(page, incident, [cause], "http://gpuward.test")


def test_a_page_says_why(make):
    """For and against, three lines at most, what is ruled out, and what to do."""
    assert as_text(message(make, OVERLOAD)).splitlines() == [
        f"{FIRST_LINE} [L1 -> ann]",
        "  impact: 20.0% of 600 requests failed",
        "  why:    Overload at all 4 replicas; besides, a lost GPU at n9, 90% certain",
        "  for:    4 of 4 replicas tell the same",
        "  for:    b",
        "  for:    c",
        "  against: not so: prompts are longer",
        "  ruled out: a slow upstream: 4 nodes say no",
        "  suspect: 1 of 4 replicas had begun anew",
        "  cause:  prompts are longer",
        "  next:   scale up: add replicas",
        "  http://gpuward.test/incidents/01INCIDENT",
    ]


def test_a_page_says_that_nobody_knows_why(make):
    """And the test that would tell; the lock screen is not told what is not known."""
    lines = as_text(message(make, UNKNOWN)).splitlines()

    assert "undetermined" not in lines[0]
    assert "  why:    Why is undetermined: overload or a change" in lines
    assert "  next:   check application: roll one replica back" in lines


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        pytest.param(
            None,
            OVERLOAD,
            "Diagnosis: Overload at all 4 replicas; besides, a lost GPU at n9.",
            id="the first",
        ),
        pytest.param(
            UNKNOWN,
            OVERLOAD,
            "Diagnosis changed from “undetermined: overload or a change” to “overload at all 4"
            " replicas”. Because 4 of 4 replicas tell the same.",
            id="another",
        ),
        pytest.param(
            OVERLOAD,
            UNKNOWN,
            "Diagnosis changed from “overload at all 4 replicas” to “undetermined: overload or a"
            " change”.",
            id="none any more",
        ),
        pytest.param(
            replace(OVERLOAD, besides=("gpu_lost",)),
            OVERLOAD,
            "The diagnosis stays, on other grounds: Overload at all 4 replicas; besides, a lost"
            " GPU at n9.",
            id="the same, on other grounds",
        ),
    ],
)
def test_the_timeline_says_what_changed(make, before, after, words):
    (event,) = decide(replace(make.incident(), diagnosis=before), e.Diagnose(after, CASE))

    assert words == describe(event, str)
    assert after == apply(make.incident(), event, 9.0).diagnosis


def test_the_same_again_is_no_event(make):
    again = replace(OVERLOAD, at_s=9_999.0, confidence=0.91)

    assert () == decide(replace(make.incident(), diagnosis=OVERLOAD), e.Diagnose(again, CASE))
