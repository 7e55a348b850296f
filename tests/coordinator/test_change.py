"""What a report brings that the one before did not say."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from msgspec import structs

from gpuward.coordinator.change import Change, what_changed
from gpuward.coordinator.model import (
    Action,
    CauseDomain,
    Evidence,
    Finding,
    FindingClass,
    Result,
    Subject,
)

# What describes a finding, and how else it may read; every other field decides something.
READINGS = {
    "summary": "worse",
    "since_s": 1.0,
    "last_seen_s": 2.0,
    "count": 9,
    "confidence": 0.5,
    "evidence": (Evidence("stranded", 1.0),),
}
DECISIVE = {
    "finding_id": "f2",
    "dedup_key": "other",
    "kind": "gpu.xid",
    "subject": Subject("n1", "GPU-2"),
    "default_class": FindingClass.PAGE,
    "domain": CauseDomain.DRIVER,
    "result": Result.UNKNOWN,
    "code": 79,
    "cleared_at_s": 3.0,
    "action": Action.RESET_GPU,
    "cause_dedup_keys": ("x",),
    "class_note": "gpu.xid is promoted to page by ann",
}


def test_every_field_of_a_finding_is_the_one_or_the_other():
    assert {f.name for f in fields(Finding)} == {*READINGS, *DECISIVE}


@pytest.mark.parametrize("name", READINGS)
def test_a_reading(make, name):
    finding = make.finding()
    newer = replace(finding, **{name: READINGS[name]})

    assert Change.READINGS is what_changed(make.report(1, [finding]), make.report(2, [newer]))


@pytest.mark.parametrize("name", DECISIVE)
def test_a_decisive_field(make, name):
    finding = make.finding()
    other = replace(finding, **{name: DECISIVE[name]})

    assert Change.STATE is what_changed(make.report(1, [finding]), make.report(2, [other]))


@pytest.mark.parametrize(
    ("seq", "ids", "changes", "change"),
    [
        pytest.param(6, "fg", {}, "LIFE", id="the same"),
        pytest.param(6, "gf", {}, "READINGS", id="in another order"),
        pytest.param(6, "f", {}, "STATE", id="one has cleared"),
        pytest.param(6, "", {}, "STATE", id="all have cleared"),
        pytest.param(6, "fgh", {}, "STATE", id="one was raised"),
        pytest.param(5, "fg", {}, "OLD", id="sent again"),
        pytest.param(4, "", {}, "OLD", id="late"),
        pytest.param(1, "fg", {"agent": "a2"}, "STATE", id="another agent begins at 1"),
        pytest.param(6, "fg", {"agent": "a2"}, "STATE", id="another agent with a higher number"),
    ],
)
def test_a_report_after_number_5(make, seq, ids, changes, change):
    previous = make.report(5, [make.finding(i) for i in "fg"])
    report = make.report(seq, [make.finding(i) for i in ids], **changes)

    assert change == what_changed(previous, report).name


def test_another_boot(make):
    report = make.report(5)

    assert Change.STATE is what_changed(report, structs.replace(report, seq=6, boot_id="next"))


def test_the_first_of_a_session_is_compared_with_the_database(make):
    assert Change.STATE is what_changed(None, make.report(1))


def test_an_event_is_written_with_its_report(make):
    report = make.report(2, events=[(1, make.finding("e"))])

    assert Change.STATE is what_changed(make.report(1), report)
    assert Change.OLD is what_changed(report, report)


def test_counters_alone_are_no_new_state(make):
    report = make.report(2, totals=[make.totals(make.now_s, requests=9)])

    assert Change.LIFE is what_changed(make.report(1), report)
