"""How much evidence an alarm takes."""

from __future__ import annotations

import random

import pytest

from gpuward.agent.detection.alarm_limit import AlarmLimit
from gpuward.agent.detection.cusum import new_cusum

THIRTY_DAYS = 518_400


def lived(noise, points, *, limit=None):
    """Return the limit that a life of ``noise`` leaves, and its CUSUM's alarms on the way."""
    learned, cusum, alarms = AlarmLimit(), new_cusum(0.0), 0
    for place in range(points):
        height = limit or learned.value
        learned.note(cusum.add(noise(), 0.5, float(place), 1.5 * height))
        if cusum.up.total >= height:
            alarms += 1
            cusum = new_cusum(0.0)
    return learned, alarms


def together(chance, kept):
    """Return noise of variance 1 that hangs together: AR(1)."""
    last = 0.0

    def draw():
        nonlocal last
        last = kept * last + chance.gauss(0.0, (1 - kept**2) ** 0.5)
        return last

    return draw


def test_it_begins_at_siegmunds():
    """Thirty days of points, an allowance of a half: 11.3."""
    assert AlarmLimit().value == 11.3


def test_normal_noise_leaves_it_there():
    """What chance does is what theory says."""
    chance = random.Random(2)
    learned, alarms = lived(lambda: chance.gauss(0.0, 1.0), 40_000)

    assert alarms == 0
    assert learned.value == pytest.approx(11.3, abs=1.5)


def test_noise_with_a_memory_lifts_it():
    """Correlated at 0.5, the textbook's limit is passed ever again; the learned one is not."""
    kept = 0.5
    _, textbook = lived(together(random.Random(3), kept), 60_000, limit=11.3)
    learned, own = lived(together(random.Random(3), kept), 60_000)

    assert textbook >= 3 * max(1, own)
    assert 15.0 < learned.value <= 40.0


def test_it_never_takes_more_than_forty():
    """A slow-down must not hide for ever behind noise."""
    learned = AlarmLimit()
    for _ in range(1_000):
        learned.note(100.0)

    assert learned.value == 40.0


@pytest.mark.parametrize(("peak", "excursions"), [(2.0, 0), (2.1, 1)])
def test_small_excursions_are_not_counted(peak, excursions):
    learned = AlarmLimit()
    learned.note(peak)

    assert (learned.points, learned.excursions) == (1, excursions)
