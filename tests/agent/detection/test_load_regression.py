"""The law of the load, against least squares of numpy."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest

from gpuward.agent.detection.load_regression import Load, LoadRegression

# Milliseconds of an H100 with an 8B model: in all, a sequence, a token of a prompt, the cache.
FIXED_S, SEQUENCE_S, TOKEN_S, CACHE_S = 7.5e-3, 3.8e-5, 2.3e-5, 1.9e-2


def law(load):
    return (
        FIXED_S
        + SEQUENCE_S * load.running
        + TOKEN_S * load.prefill_tokens
        + CACHE_S * load.kv_cache_ratio
    )


def some_load(chance, busy=1.0):
    running = chance.uniform(1.0, 60.0) * busy
    context = running / 200 * chance.uniform(0.7, 1.3)
    return Load(running, chance.expovariate(1 / 120.0) * busy, context)


def learned(points, *, noise=0.0, seed=1, factor=lambda place: 1.0):
    chance, regression, seen = random.Random(seed), LoadRegression(), []
    for place in range(points):
        load = some_load(chance)
        seconds = law(load) * (1.0 + chance.gauss(0.0, noise)) * factor(place)
        regression.learn(load, seconds, 0.05)
        seen.append((load, seconds))
    return regression, seen


def test_it_finds_the_law():
    """Without noise, within a promille, also at loads that it has not seen just so."""
    regression, _ = learned(400)
    chance = random.Random(9)

    for load in (some_load(chance) for _ in range(50)):
        assert regression.expect(load).seconds == pytest.approx(law(load), rel=1e-3)


def test_it_is_weighted_least_squares():
    """As numpy solves it in one go, by the inverse of what is expected, when no point is wild."""
    regression, seen = learned(300, noise=0.01)
    scales = [regression.expect(load).seconds for load, _ in seen]
    rows = np.array(
        [[x / s for x in load.features] for (load, _), s in zip(seen, scales, strict=True)]
    )
    targets = np.array([seconds / s for (_, seconds), s in zip(seen, scales, strict=True)])
    solved = np.linalg.lstsq(rows, targets, rcond=None)[0]
    chance = random.Random(4)

    for load in (some_load(chance) for _ in range(20)):
        expected = float(np.dot(solved, load.features))
        assert regression.expect(load).seconds == pytest.approx(expected, rel=3e-3)


def test_a_pause_is_no_law():
    """One point in fifty takes ten times as long, and moves what is expected by under 2 %."""
    regression, _ = learned(
        2_000, noise=0.02, factor=lambda place: 10.0 if place % 50 == 7 else 1.0
    )
    load = Load(30.0, 100.0, 0.15)

    assert regression.expect(load).seconds == pytest.approx(law(load), rel=0.02)


def test_it_is_unsure_where_it_has_not_been():
    """A load ten times as high has a leverage, and so a doubt, far above that of a usual one."""
    regression, _ = learned(200, noise=0.02)
    usual = regression.expect(Load(30.0, 120.0, 0.15)).leverage
    unusual = regression.expect(Load(300.0, 1_200.0, 1.0)).leverage

    assert 0.0 < usual < 0.1
    assert unusual > 20 * usual


def test_the_day_is_remembered_at_night():
    """Three hours of little traffic later a busy load is as well known as before, or nearly."""
    regression, _ = learned(1_000, noise=0.02)
    busy = Load(55.0, 200.0, 0.3)
    before = regression.expect(busy).leverage
    chance = random.Random(6)
    for _ in range(2_160):
        load = some_load(chance, busy=0.05)
        regression.learn(load, law(load) * (1.0 + chance.gauss(0.0, 0.02)), 0.02)
    after = regression.expect(busy)

    assert after.seconds == pytest.approx(law(busy), rel=0.02)
    assert after.leverage < 2 * before


def test_nothing_is_expected_of_nothing():
    assert LoadRegression().expect(Load(1.0, 0.0, 0.0)) is None


def test_it_expects_a_time_whatever_it_was_fed():
    """Never nothing and never less: what is divided by it must stay finite."""
    regression = LoadRegression()
    for seconds in (1.0, 1e-9, 50.0, 1e-6):
        regression.learn(Load(1e3 * seconds, 0.0, 0.0), seconds, 0.05)

        for load in (Load(0.0, 0.0, 0.0), Load(1e4, 1e5, 1.0)):
            assert regression.expect(load).seconds > 0.0


def test_what_is_never_told_stays_vague_and_finite():
    """An engine without a KV gauge: a million points later its coefficient is no overflow."""
    regression = LoadRegression()
    chance = random.Random(5)
    for _ in range(5_000):
        load = Load(chance.uniform(1.0, 60.0), 0.0, 0.0)
        regression.learn(load, law(load), 0.05)
    traces = [sum(row[i] for i, row in enumerate(regression.covariance))]
    for _ in range(5_000):
        regression.learn(Load(30.0, 0.0, 0.0), law(Load(30.0, 0.0, 0.0)), 0.05)
    traces.append(sum(row[i] for i, row in enumerate(regression.covariance)))

    assert traces[1] <= traces[0] * 1.5


def test_it_is_kept_as_it_is():
    """What is written and read again expects the same to the last bit."""
    regression, _ = learned(100, noise=0.02)
    again = msgspec.json.decode(msgspec.json.encode(regression), type=LoadRegression)
    load = Load(12.0, 80.0, 0.1)

    assert again.expect(load) == regression.expect(load)


@pytest.mark.parametrize(
    ("coefficients", "covariance"),
    [
        pytest.param([1.0] * 4, [[1.0] * 4] * 4, id="of another version"),
        pytest.param([1.0] * 5, [[1.0] * 5] * 4, id="a row is missing"),
        pytest.param([1.0] * 5, [[1.0] * 4] * 5, id="a column is missing"),
        pytest.param([], [[1.0] * 5] * 5, id="no coefficients"),
    ],
)
def test_what_is_no_law_is_refused(coefficients, covariance):
    """A file of another version begins anew, and does not fail at every turn."""
    with pytest.raises(ValueError, match="not a law of 5 coefficients"):
        LoadRegression(coefficients, covariance)
