"""Who is paged when: MISSION's table, restated in seconds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuward.coordinator.escalation import (
    DEFAULT_POLICY,
    Fire,
    Nobody,
    Postpone,
    Target,
    decide_step,
    dedup_key,
    handover_step,
    misses_acknowledgement,
    reconcile,
    row_of,
    steps_for,
    stops,
)
from gpuward.coordinator.model import CauseDomain, Rotation, Severity, State, Until
from gpuward.coordinator.oncall import Roster, Team

S1, S2, S3, S4 = Severity.SEV1, Severity.SEV2, Severity.SEV3, Severity.SEV4
MINUTE = 60.0


def plan(incident, speed=1.0):
    steps = steps_for(incident, DEFAULT_POLICY, speed)
    return [(s.level, s.due_at_s - incident.opened_at_s, s.until.value) for s in steps]


MAJOR = [
    ("L1", 0, "acknowledged"),
    ("L1-repeat", 5 * MINUTE, "acknowledged"),
    ("L2", 15 * MINUTE, "acknowledged"),
    ("L3", 30 * MINUTE, "resolved"),
    ("executive", 60 * MINUTE, "resolved"),
]


@pytest.mark.parametrize(
    ("severity", "steps"),
    [
        pytest.param(S1, MAJOR, id="SEV1"),
        pytest.param(S2, MAJOR, id="SEV2"),
        pytest.param(
            S3,
            [
                ("L1", 0, "acknowledged"),
                ("L2", 60 * MINUTE, "acknowledged"),
                ("L3", 240 * MINUTE, "resolved"),
            ],
            id="SEV3",
        ),
        pytest.param(S4, [], id="SEV4 pages nobody"),
    ],
)
def test_steps(make, severity, steps):
    assert steps == plan(make.incident(severity))


def test_speed_divides_every_delay(make):
    assert [0, 5, 15, 30, 60] == [due for _, due, _ in plan(make.incident(), speed=60.0)]


def test_the_executive_step_waits_for_half_an_hour_of_impact(make):
    late = make.incident(impact_since_s=make.now_s + 45 * MINUTE)

    assert ("executive", 75 * MINUTE, "resolved") in plan(late)


def test_nothing_is_left_once_resolved(make):
    assert [] == plan(replace(make.incident(), state=State.RESOLVED))


def decide(make, level, incident, roster=None, now_s=None):
    (step,) = (s for s in steps_for(incident, DEFAULT_POLICY, 1.0) if s.level == level)
    row = row_of(step, incident, DEFAULT_POLICY)
    return decide_step(
        row,
        incident,
        roster or make.roster,
        speed=1.0,
        now_s=step.due_at_s if now_s is None else now_s,
    )


@pytest.mark.parametrize(
    ("level", "targets"),
    [
        pytest.param("L1", [("ann", "pager")], id="primary, preferred channel"),
        pytest.param("L1-repeat", [("ann", "pager"), ("ann", "phone")], id="every channel"),
        pytest.param("L2", [("bob", "pager")], id="secondary"),
        pytest.param("L3", [("cyd", "pager"), ("exa", "pager")], id="lead and the domain's expert"),
        pytest.param("executive", [("vic", "pager")], id="leadership"),
    ],
)
def test_who(make, level, targets):
    assert Fire(tuple(Target(*t) for t in targets)) == decide(make, level, make.incident())


def test_who_holds_two_roles_is_paged_once(make):
    lead = make.roster.teams[Rotation.INFRASTRUCTURE].lead
    roster = replace(make.roster, experts={CauseDomain.CAPACITY: lead})

    assert Fire((Target("cyd", "pager"),)) == decide(make, "L3", make.incident(), roster)


def test_a_level_may_have_channels_of_its_own(make):
    team = replace(make.roster.teams[Rotation.INFRASTRUCTURE], channels={"L1": ("hotline",)})
    roster = replace(make.roster, teams={Rotation.INFRASTRUCTURE: team})

    assert Fire((Target("ann", "hotline"),)) == decide(make, "L1", make.incident(), roster)


def test_nobody(make):
    roster = Roster(teams={Rotation.INFRASTRUCTURE: Team()}, experts={})

    assert Nobody(("primary",)) == decide(make, "L1", make.incident(), roster)


@pytest.mark.parametrize(
    ("impact", "severity", "fires"),
    [
        pytest.param(True, S2, True, id="users are hurt"),
        pytest.param(False, S2, False, id="users are fine"),
        pytest.param(None, S2, True, id="unknown counts as hurt"),
    ],
)
def test_the_executive_step_fires_only_for_customer_impact(make, impact, severity, fires):
    incident = make.incident(severity, customer_impact=impact)

    answer = decide(make, "executive", incident)

    assert fires == isinstance(answer, Fire)
    assert fires or answer == Postpone(make.now_s + 61 * MINUTE)


def test_the_executive_step_is_put_off_while_the_impact_is_young(make):
    incident = make.incident(impact_since_s=make.now_s + 50 * MINUTE)

    answer = decide(make, "executive", incident, now_s=make.now_s + 60 * MINUTE)

    assert Postpone(make.now_s + 80 * MINUTE) == answer


def changes(existing, incident, now_s):
    rows = reconcile(existing, incident, DEFAULT_POLICY, 1.0, now_s)
    return [(s.level, s.due_at_s - incident.opened_at_s, s.cancelled_at_s) for s in rows]


def test_a_worse_severity_moves_what_has_not_fired(make):
    """Times count from the same instant; a fired step never comes back."""
    sev3 = make.incident(S3)
    first, *rest = steps_for(sev3, DEFAULT_POLICY, 1.0)
    known = [replace(first, fired_at_s=make.now_s), *rest]

    moved = changes(known, replace(sev3, severity=S1), make.now_s + 20 * MINUTE)

    assert {
        ("L1-repeat", 5 * MINUTE, None),
        ("executive", 60 * MINUTE, None),
        ("L2", 15 * MINUTE, None),
        ("L3", 30 * MINUTE, None),
    } == set(moved)


def test_a_milder_severity_cancels_what_it_does_not_have(make):
    steps = steps_for(make.incident(S2), DEFAULT_POLICY, 1.0)
    now_s = make.now_s + MINUTE

    moved = changes(steps, replace(make.incident(), severity=S3), now_s)

    assert {("L1-repeat", 300, now_s), ("executive", 3600, now_s)} < set(moved)
    assert {("L2", 3600, None), ("L3", 14_400, None)} < set(moved)


def test_a_cancelled_step_comes_back_with_its_severity(make):
    (executive,) = (
        s for s in steps_for(make.incident(), DEFAULT_POLICY, 1.0) if s.level == "executive"
    )
    cancelled = replace(executive, cancelled_at_s=make.now_s)

    assert ("executive", 3600, None) in changes([cancelled], make.incident(), make.now_s)


def test_resolving_cancels_everything_unfired(make):
    incident = make.incident()
    steps = (*steps_for(incident, DEFAULT_POLICY, 1.0), handover_step(incident, make.now_s))

    moved = changes(steps, replace(incident, state=State.RESOLVED), make.now_s + 1)

    assert 6 == len(moved)
    assert all(cancelled == make.now_s + 1 for _, _, cancelled in moved)


def test_a_handover_survives_other_changes(make):
    incident = make.incident()
    steps = (*steps_for(incident, DEFAULT_POLICY, 1.0), handover_step(incident, make.now_s))

    assert [] == changes(steps, incident, make.now_s + 1)
    assert Fire((Target("ann", "pager"),)) == decide_step(
        row_of(steps[-1], incident, DEFAULT_POLICY),
        incident,
        make.roster,
        speed=1.0,
        now_s=make.now_s,
    )


@pytest.mark.parametrize(
    ("state", "until", "reason"),
    [
        (State.OPEN, Until.ACKNOWLEDGED, ""),
        (State.OPEN, Until.RESOLVED, ""),
        (State.ACKNOWLEDGED, Until.ACKNOWLEDGED, "acknowledged"),
        (State.ACKNOWLEDGED, Until.RESOLVED, ""),
        (State.MITIGATED, Until.ACKNOWLEDGED, "mitigated"),
        (State.MITIGATED, Until.RESOLVED, ""),
        (State.RESOLVED, Until.ACKNOWLEDGED, "resolved"),
        (State.RESOLVED, Until.RESOLVED, "resolved"),
    ],
)
def test_stops(make, state, until, reason):
    """An acknowledgement never stops L3 or the executive step."""
    assert reason == stops(replace(make.incident(), state=state), until)


@pytest.mark.parametrize(
    ("level", "severity", "misses"),
    [
        ("L1", S2, False),
        ("L1-repeat", S2, True),
        ("L2", S3, True),
        ("L3", S2, False),
    ],
)
def test_misses_acknowledgement(make, level, severity, misses):
    incident = make.incident(severity)
    (row,) = (r for r in DEFAULT_POLICY if r.level == level and severity in r.severities)

    assert misses == misses_acknowledgement(row, incident)
    known = replace(incident, acknowledgement_missed_at_s=make.now_s)
    assert not misses_acknowledgement(row, known)


def test_dedup_keys_fit_every_provider():
    keys = [dedup_key("0" * 26, row.level) for row in DEFAULT_POLICY]
    keys += [dedup_key("0" * 26, f"handover-{rotation}") for rotation in Rotation]

    assert "inc-" + "0" * 26 + "-L1" == keys[0]
    assert all(len(key) <= 64 and key.isascii() for key in keys)
