"""The diagnosis of a service, as its people see it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuward.coordinator import events as e
from gpuward.coordinator.diagnosis.values import Case, Diagnosis, Scope
from gpuward.coordinator.incidents_text import details
from gpuward.coordinator.model import Action, CauseDomain, Evidence

HOSTILE = "<script>alert(1)</script>"
HEAT = Diagnosis(
    "thermal",
    Scope.ONE,
    "a GPU that heat slows down at n1:8000",
    "A GPU that heat slows down at n1:8000; overload at 3 of 4 replicas may follow from it.",
    0.9,
    5.0,
    domain=CauseDomain.GPU,
    about="n1:8000",
    action=Action.DRAIN_NODE,
    advice="look at fans",
    supports=("heat holds the clocks down", HOSTILE),
    contradicts=("not so: power",),
    ruled_out=("larger requests: 4 nodes say no",),
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


@pytest.fixture
def diagnosed(site, fragmentation):
    """Return the path of an incident that has this diagnosis."""

    async def open_it(diagnosis, findings=(fragmentation,)):
        incident = await site.open(findings=findings)
        case = Case("chat", 1.0, 5.0)
        await site.append(incident, e.Diagnosed(diagnosis, case))
        return f"/incidents/{incident.id}"

    return open_it


async def test_page_says_why_with_grounds(site, diagnosed):
    """The cause beside the title; certainty, what to do, for, against and ruled out below."""
    text = (await site.browser.get(await diagnosed(HEAT))).text

    assert "Probable cause: <strong>a GPU that heat slows down at n1:8000.</strong>" in text
    for words in (
        "90 % certain",
        "<strong>Do:</strong> look at fans.",
        "<dt>for it</dt><dd><ul><li>heat holds the clocks down</li>",
        "<dt>against it</dt><dd><ul><li>not so: power</li>",
        "<dt>ruled out</dt><dd><ul><li>larger requests: 4 nodes say no</li>",
        "Diagnosis: A GPU that heat slows down at n1:8000; overload at 3 of 4",
    ):
        assert words in text
    assert HOSTILE not in text


async def test_page_says_that_nobody_knows(site, diagnosed):
    """And what would tell; no finding passes for a cause in the headline."""
    text = (await site.browser.get(await diagnosed(UNKNOWN))).text

    assert "Why is undetermined: overload or a change. Next: <strong>roll one replica" in text
    assert "Probable cause" not in text
    assert "certain</span>" not in text


async def test_list_says_the_diagnosis(site, diagnosed):
    await diagnosed(HEAT)

    assert "a GPU that heat slows down at n1:8000 · chat" in (await site.browser.get("/")).text


async def test_a_terminal_says_it_too(site, diagnosed):
    """Through the API, which has all of it."""
    path = await diagnosed(HEAT)
    found = (await site.browser.get(f"/api/v1{path}")).json()

    lines = [*details(found, site.clock.wall_s())]

    assert ("thermal", "one") == (found["diagnosis"]["cause"], found["diagnosis"]["scope"])
    assert f"  why        {HEAT.summary}" in lines
    assert "  ruled out  larger requests: 4 nodes say no" in lines
    assert "  do         look at fans" in lines


async def test_review_begins_with_the_diagnosis(site, diagnosed):
    text = (await site.browser.get(f"{await diagnosed(HEAT)}/review")).text

    assert "may follow from it. The diagnosis was 90% certain." in text


async def test_a_thousand_replicas_are_a_page_and_not_a_book(site, diagnosed, fragmentation):
    """Twenty findings, the evidence of eight, and how many there are beside."""
    evidence = tuple(Evidence(f"sign_{n}", n, "seconds", text="for: it is so") for n in range(12))
    many = [
        replace(fragmentation, finding_id=f"f{n}", dedup_key=f"f{n}", evidence=evidence)
        for n in range(1000)
    ]

    text = (await site.browser.get(await diagnosed(HEAT, many))).text

    assert 20 == text.count("Suggested: restart application")
    assert 8 == text.count("sign_<wbr>11")
    assert "And 980 more" in text
