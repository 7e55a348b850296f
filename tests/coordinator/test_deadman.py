"""Which nodes are silent for too long."""

from __future__ import annotations

import pytest

from gpuward.coordinator.deadman import NodeLife, overdue, severity
from gpuward.coordinator.model import Severity

T = 1_800_000_000.0


@pytest.mark.parametrize(
    ("life", "listening_since_s", "is_overdue"),
    [
        pytest.param(NodeLife("n", T - 45.0), 0.0, False, id="45 s is not overdue"),
        pytest.param(NodeLife("n", T - 45.1), 0.0, True, id="more is"),
        pytest.param(NodeLife("n", T - 900.0), T - 45.0, False, id="we were down ourselves"),
        pytest.param(NodeLife("n", T - 900.0), T - 45.1, True, id="but not any more"),
        pytest.param(NodeLife("n", T - 900.0, T + 0.1), 0.0, False, id="still away as planned"),
        pytest.param(NodeLife("n", T - 900.0, T), 0.0, True, id="should be back"),
    ],
)
def test_overdue(life, listening_since_s, is_overdue):
    found = overdue([life], listening_since_s=listening_since_s, now_s=T)

    assert is_overdue == ("n" in found)


@pytest.mark.parametrize(
    ("silent", "known", "how_bad"),
    [
        pytest.param(1, 5, Severity.SEV4, id="one of five"),
        pytest.param(1, 4, Severity.SEV3, id="a quarter: blind"),
        pytest.param(1, 1, Severity.SEV3, id="the only one"),
    ],
)
def test_severity(silent, known, how_bad):
    assert how_bad is severity(silent, known)
