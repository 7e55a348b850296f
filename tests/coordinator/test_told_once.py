"""A trouble that several findings tell is read once, with what each of them knows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuward.coordinator.model import Evidence, Page, Relation, Until
from gpuward.coordinator.page import as_text, render
from gpuward.coordinator.told_once import merged, standing

LINE = "DBE (double bit error) ECC Error"


@pytest.fixture
def stands(make):
    evidence = (Evidence("xid_events", 2.0, "1"), Evidence("xid_line", text=LINE))
    return make.finding("f1", kind="gpu.xid", evidence=evidence)


@pytest.fixture
def happened(make):
    """Return a function that builds the same as an event, over when it began."""

    def build(finding_id, in_a_day):
        facts = (
            Evidence("xid_in_a_day", in_a_day, "1"),
            Evidence("xid_events", 1.0, "1"),
            Evidence("event_text", text=LINE),
        )
        return make.finding(finding_id, kind="gpu.xid", evidence=facts, cleared_at_s=make.now_s)

    return build


def test_what_stands_tells_what_happened_too(make, stands, happened):
    """Of two figures of one name the standing one's, else the newest; no words twice."""
    other = make.finding("f9", kind="gpu.lost")
    told = merged([happened("e1", 1.0), stands, happened("e2", 2.0), other])

    assert [finding.finding_id for finding in told] == ["f1", "f9"]
    assert [(fact.name, fact.value or fact.text) for fact in told[0].evidence] == [
        ("xid_events", 2.0),
        ("xid_line", LINE),
        ("xid_in_a_day", 2.0),
    ]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        pytest.param("f1 e1", "f1", id="what stands"),
        pytest.param("e1 f1", "f1", id="whichever came first"),
        pytest.param("e1 e2", "e2", id="the newest of events"),
        pytest.param("f1", "f1", id="alone"),
    ],
)
def test_one_is_linked_and_shown(make, stands, happened, order, expected):
    known = {"f1": stands, "e1": happened("e1", 1.0), "e2": happened("e2", 2.0)}
    findings = [known[name] for name in order.split()]

    assert [finding.finding_id for finding in standing(map(make.linked, findings))] == [expected]
    assert [finding.finding_id for finding in merged(findings)] == [expected]


def test_a_page_names_a_cause_once(make, stands, happened):
    linked = tuple(make.linked(one, Relation.NODE) for one in (stands, happened("e1", 1.0)))
    incident = replace(make.incident(), findings=linked)
    page = Page(7, incident.id, "L1", "ann", "pager", "inc-1-L1", Until.ACKNOWLEDGED, make.now_s)
    text = as_text(render(page, incident, [stands], "http://gpuward.test"))

    assert text.count("cause:") == 1
