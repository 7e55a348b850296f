"""Severity from user impact; both sides of every threshold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuward.coordinator.impact import Impact
from gpuward.coordinator.model import Severity
from gpuward.coordinator.severity import Assessment, Change, Keep, Over, assess, follow

S1, S2, S3, S4 = Severity.SEV1, Severity.SEV2, Severity.SEV3, Severity.SEV4


def impact(requests=100_000, failed=0, slow=0, **changes):
    return Impact("chat", requests, failed, slow, **changes)


@pytest.mark.parametrize(
    ("what", "severity"),
    [
        pytest.param(impact(failed=90_200), S1, id="over 90 % fail"),
        pytest.param(impact(failed=89_900), S2, id="under 90 % fail"),
        pytest.param(impact(failed=10_250), S2, id="over 10 % fail"),
        pytest.param(impact(failed=9_900), S3, id="under 10 % fail"),
        pytest.param(impact(failed=1_080), S3, id="over 1 % fail"),
        pytest.param(impact(failed=990), S4, id="under 1 % fail"),
        pytest.param(impact(failed=130), S4, id="over 0.1 % fail"),
        pytest.param(impact(failed=99), None, id="under 0.1 % fail"),
        pytest.param(impact(slow=50_400), S2, id="half slow"),
        pytest.param(impact(slow=49_900), S3, id="less than half slow"),
        pytest.param(impact(slow=9_300), S3, id="about 10 % slow"),
        pytest.param(impact(slow=8_900), S4, id="under 9 % slow"),
        pytest.param(impact(slow=1_080), S4, id="over 1 % slow"),
        pytest.param(impact(slow=990), None, id="under 1 % slow"),
        pytest.param(impact(failed=1_080, slow=50_000), S2, id="the worse dimension wins"),
        pytest.param(impact(), None, id="healthy"),
        pytest.param(impact(0), None, id="no traffic"),
        pytest.param(impact(29, failed=29), S4, id="29 requests prove nothing"),
        pytest.param(impact(30, failed=30), S2, id="30 requests do"),
        pytest.param(impact(29, failed=29, unready_for_s=15.0), S1, id="unless nothing is ready"),
        pytest.param(impact(29, failed=29, stalled_for_s=60.0), S2, id="or nothing completes"),
        pytest.param(impact(0, waiting=1, unready_for_s=14.9), None, id="a restart is no outage"),
        pytest.param(impact(0, waiting=1, unready_for_s=15.0), S1, id="demand and nothing ready"),
        pytest.param(impact(0, unready_for_s=900.0), None, id="nothing ready, nobody asks"),
        pytest.param(impact(0, running=3, stalled_for_s=59.9), None, id="long requests"),
        pytest.param(impact(0, running=3, stalled_for_s=60.0), S2, id="stalled"),
    ],
)
def test_assess(what, severity):
    assert severity == assess(what).severity


def test_every_dimension_gives_its_reason_worst_first():
    reasons = assess(impact(1000, failed=100, slow=600)).reasons

    assert reasons == (
        "66.7% of 900 served requests were over the objective (at least 63.5%, SEV2 from 50.0%)",
        "10.0% of 1000 requests failed (at least 8.3%, SEV3 from 1.0%)",
    )


def test_few_requests_are_said():
    assert "capped at SEV4: fewer than 30 requests" in assess(impact(10, failed=10)).reasons[0]


def test_speed_shortens_the_holds_of_capacity_to_what_can_be_seen():
    """Unready for 15 s, stalled for 60 s, by the speed; never less than 5 s: reports take one."""
    assert Assessment(None) == assess(impact(0, waiting=1, unready_for_s=7.4), speed=2.0)
    assert S1 == assess(impact(0, waiting=1, unready_for_s=7.5), speed=2.0).severity
    assert Assessment(None) == assess(impact(0, waiting=1, unready_for_s=4.9), speed=60.0)
    assert S1 == assess(impact(0, waiting=1, unready_for_s=5.0), speed=60.0).severity
    assert Assessment(None) == assess(impact(0, running=1, stalled_for_s=4.9), speed=60.0)
    assert S2 == assess(impact(0, running=1, stalled_for_s=5.0), speed=60.0).severity


T = 1_800_000_000.0


def after(make, severity, what, better_since_s, now_s, **changes):
    known = replace(make.incident(severity), **changes)
    return follow(known, what, better_since_s, speed=1.0, now_s=now_s)


def test_worse_is_at_once(make):
    answer = after(make, S3, impact(failed=20_000), None, T)

    assert isinstance(answer, Change)
    assert S2 is answer.severity


@pytest.mark.parametrize(
    ("failed", "answer"),
    [
        pytest.param(20_000, Keep(), id="as bad as before"),
        pytest.param(8_300, Keep(), id="below the threshold, not below 0.8 of it"),
        pytest.param(7_700, Keep(T), id="better from now"),
    ],
)
def test_better_has_to_hold(make, failed, answer):
    assert answer == after(make, S2, impact(failed=failed), None, T)


@pytest.mark.parametrize(
    ("for_s", "severity"),
    [
        pytest.param(599.9, None, id="not yet"),
        pytest.param(600.0, S3, id="ten minutes"),
    ],
)
def test_downgrade_after_the_hold(make, for_s, severity):
    answer = after(make, S2, impact(failed=5_000), T, T + for_s)

    assert severity == (answer.severity if isinstance(answer, Change) else None)


@pytest.mark.parametrize(
    ("for_s", "answer"),
    [
        pytest.param(599.9, Keep(T), id="not yet"),
        pytest.param(600.0, Over(), id="ten minutes"),
    ],
)
def test_over_after_the_hold(make, for_s, answer):
    assert answer == after(make, S2, impact(), T, T + for_s)


@pytest.mark.parametrize(
    ("since_sev1_s", "severity"),
    [
        pytest.param(1799.0, S2, id="within 30 min of SEV1"),
        pytest.param(1800.0, S3, id="later"),
    ],
)
def test_a_machine_does_not_fall_far_from_sev1(make, since_sev1_s, severity):
    now_s = T + 5000
    answer = after(make, S1, impact(failed=5_000), T, now_s, sev1_at_s=now_s - since_sev1_s)

    assert severity is answer.severity
