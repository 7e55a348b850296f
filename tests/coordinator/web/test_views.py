"""What the pages say, state by state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuward.coordinator.impact import Impact
from gpuward.coordinator.model import (
    CauseDomain,
    Incident,
    Page,
    Rotation,
    Severity,
    State,
    Until,
)
from gpuward.coordinator.web import views

NOW_S = 10_000.0
INCIDENT = Incident(
    id="01",
    group_key="service|chat",
    kind="service.impact",
    title="chat: requests fail",
    state=State.OPEN,
    severity=Severity.SEV2,
    peak_severity=Severity.SEV2,
    domain=CauseDomain.CAPACITY,
    rotation=Rotation.INFRASTRUCTURE,
    opened_at_s=NOW_S - 60,
    updated_at_s=NOW_S,
    service="chat",
    reasons=("20% failed",),
    customer_impact=True,
    impact_since_s=NOW_S - 90,
)
PAGE = Page(1, "01", "L1", "Ann", "console", "key", Until.ACKNOWLEDGED, NOW_S - 50)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param(
            {}, "Users of chat have been affected for 1 min 30 s: 20% failed.", id="affected"
        ),
        pytest.param(
            {"title": "chat: 20% failed"},
            "Users of chat have been affected for 1 min 30 s.",
            id="the title says why",
        ),
        pytest.param(
            {"service": "", "impact_since_s": None, "reasons": ()},
            "Users have been affected.",
            id="nothing more is known",
        ),
        pytest.param(
            {"customer_impact": None}, "No effect on users is known yet.", id="nobody can know"
        ),
        pytest.param(
            {"customer_impact": False, "mitigated_at_s": NOW_S},
            "Users are no longer affected; somebody has to confirm that the cause is gone.",
            id="mitigated",
        ),
        pytest.param(
            {"mitigated_at_s": NOW_S - 9, "resolved_at_s": NOW_S}, "This is over.", id="resolved"
        ),
    ],
)
def test_feeling(changes, words):
    """One sentence on what users feel, true in each state."""
    assert views.feeling(replace(INCIDENT, **changes), NOW_S) == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({}, "sending", id="new"),
        pytest.param({"attempts": 1, "sent_at_s": NOW_S}, "delivered", id="first attempt"),
        pytest.param(
            {"attempts": 3, "sent_at_s": NOW_S}, "delivered at attempt 3", id="third attempt"
        ),
        pytest.param(
            {"attempts": 2, "last_error": "HTTP 503"},
            "retrying after 2 attempts: HTTP 503",
            id="retrying",
        ),
        pytest.param(
            {"abandoned_at_s": NOW_S, "last_error": "acknowledged"},
            "not sent: acknowledged",
            id="given up",
        ),
        pytest.param({"abandoned_at_s": NOW_S}, "not sent: no longer needed", id="no reason kept"),
    ],
)
def test_delivery(changes, words):
    """Where a page is."""
    assert views.delivery(replace(PAGE, **changes)) == words


def test_figures():
    """Shares with their counts; what is bad stands out."""
    impact = Impact("chat", requests=600, failed=120, slow=0, instances=3, ready=2, waiting=7)

    figures = views.figures(INCIDENT, impact, NOW_S, window_s=300)

    assert [
        ("users affected for", "1 min 30 s", True),
        ("failed: 120 of 600 requests in 5 min", "20.0 %", True),
        ("over the objective: 0 of 480 served in 5 min", "0.0 %", False),
        ("waiting in the queue", "7", False),
        ("instances ready", "2 of 3", True),
    ] == [(f.label, f.value, f.is_bad) for f in figures]


def test_figures_without_traffic():
    """No request is not 0 % of failures."""
    impact = Impact("chat", requests=0, failed=0, slow=0, instances=1, ready=1)

    figures = {f.label: f.value for f in views.figures(INCIDENT, impact, NOW_S, window_s=300)}

    assert figures["failed: no requests in 5 min"] == "\N{EN DASH}"


def test_figures_after_the_end():
    """The clock of the impact stands still once users are relieved."""
    over = replace(INCIDENT, customer_impact=False, mitigated_at_s=NOW_S - 30)

    (figure,) = views.figures(over, None, NOW_S, window_s=300)

    assert (figure.label, figure.value, figure.is_bad) == (
        "users were affected for",
        "1 min",
        False,
    )
