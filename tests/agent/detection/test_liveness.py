"""Absence as evidence."""

from __future__ import annotations

import pytest

from gpuward.agent.detection.liveness import Liveness, liveness


@pytest.mark.parametrize(
    ("silent_s", "period_s", "expected"),
    [
        pytest.param(0.0, 1.0, Liveness.ALIVE, id="it has just spoken"),
        pytest.param(2.9, 1.0, Liveness.ALIVE, id="two turns missed"),
        pytest.param(3.0, 1.0, Liveness.SUSPECT, id="three"),
        pytest.param(5.9, 1.0, Liveness.SUSPECT, id="five"),
        pytest.param(6.0, 1.0, Liveness.DEAD, id="six"),
        pytest.param(30.0, 10.0, Liveness.SUSPECT, id="three long ones"),
        pytest.param(1e9, 10.0, Liveness.DEAD, id="for years"),
    ],
)
def test_liveness(silent_s, period_s, expected):
    """Three missed turns are suspect, six are dead."""
    assert expected is liveness(silent_s, period_s)
