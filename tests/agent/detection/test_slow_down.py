"""Slower than before at the same load: noticed, measured, dated; and nothing else is."""

from __future__ import annotations

import random

import pytest

from gpuward.agent.detection.load_regression import Load
from gpuward.agent.detection.slow_down import SlowDown

TURN_S = 5.0
LEARNED = 1_000


def some_load(chance, place):
    """Traffic that swings, so that the raw time is never still."""
    running = 20.0 + 15.0 * chance.random() + (10.0 if place // 100 % 2 else 0.0)
    return Load(running, chance.expovariate(1 / 100.0), running / 250)


def law(load):
    return (
        7.5e-3 + 3.8e-5 * load.running + 2.3e-5 * load.prefill_tokens + 0.02 * load.kv_cache_ratio
    )


class Engine:
    """Feeds one ``SlowDown``, a point each five seconds."""

    def __init__(self, seed=1, noise=0.015):
        self.slow_down = SlowDown()
        self.noise = noise
        self.chance = random.Random(seed)
        self.place = 0

    @property
    def now_s(self):
        return TURN_S * self.place

    def run(self, points, factor=lambda _: 1.0):
        """Return what was judged of each of ``points`` more."""
        judged = []
        for point in range(points):
            load = some_load(self.chance, self.place)
            noisy = law(load) * self.chance.lognormvariate(0.0, self.noise) * factor(point)
            judged.append(self.slow_down.judge(load, noisy, self.now_s))
            self.place += 1
        return judged


def first_alarm(judged):
    return next(
        (n for n, each in enumerate(judged) if each.evidence and each.evidence >= 1.0), None
    )


def test_it_learns_without_a_word():
    """Ten minutes; however wild they are."""
    engine = Engine()
    wild = engine.run(121, lambda point: 1.0 + point % 3)

    assert wild[0] is None
    assert {each.evidence for each in wild[1:]} == {None}
    assert engine.run(1)[0].evidence is not None


def test_a_healthy_day_is_silent():
    """Load that swings every eight minutes makes no evidence to speak of."""
    judged = Engine().run(17_280)

    assert max(each.evidence or 0.0 for each in judged if each) < 0.8


@pytest.mark.parametrize(
    ("by", "within_points"), [(1.15, 6), (1.05, 24), (1.5, 5)], ids=["15 %", "5 %", "50 %"]
)
def test_a_step_is_noticed_measured_and_dated(by, within_points):
    """Within half a minute (15 %) and two (5 %); by how much, and since when to ten seconds."""
    engine = Engine()
    engine.run(LEARNED)
    onset_s = engine.now_s
    judged = engine.run(60, lambda _: by)
    place = first_alarm(judged)

    assert place is not None
    assert place < within_points
    assert judged[-1].shift_ratio == pytest.approx(by - 1.0, abs=0.015)
    assert judged[place].shift_ratio == pytest.approx(by - 1.0, abs=0.03)
    assert judged[place].since_s == pytest.approx(onset_s, abs=10.0)


def test_a_drift_is_noticed_before_six_percent():
    """1 % a minute, twelve points a minute."""
    engine = Engine()
    engine.run(LEARNED)
    place = first_alarm(engine.run(100, lambda point: 1.0 + point / 1_200))

    assert place is not None
    assert place / 1_200 < 0.06


@pytest.mark.parametrize("by", [1.02, 0.98])
def test_two_percent_are_not_worth_an_alarm(by):
    """Heat and clocks do as much; it becomes what is usual."""
    engine = Engine()
    engine.run(LEARNED)

    assert first_alarm(engine.run(1_000, lambda _: by)) is None


def test_a_fault_does_not_become_usual():
    """After six hours it is as slow as it was, and known as such."""
    engine = Engine()
    engine.run(LEARNED)
    judged = engine.run(4_320, lambda _: 1.1)

    assert judged[-1].evidence >= 1.0
    assert judged[-1].shift_ratio == pytest.approx(0.1, abs=0.015)


def test_a_fault_that_eases_is_told_as_it_is_now():
    """Half of it is gone since five minutes: the mean of all of it would say 17 %."""
    engine = Engine()
    engine.run(LEARNED)
    judged = engine.run(180, lambda point: 1.2 if point < 120 else 1.1)

    assert judged[119].shift_ratio == pytest.approx(0.2, abs=0.015)
    assert judged[-1].shift_ratio == pytest.approx(0.1, abs=0.015)


def test_after_a_day_it_is_what_the_engine_does():
    """A ticket that nobody can close helps nobody: learned anew, in silence."""
    engine = Engine()
    engine.run(LEARNED)
    engine.run(17_400, lambda _: 1.1)
    later = engine.run(500, lambda _: 1.1)

    assert max(each.evidence or 0.0 for each in later) < 0.8


def test_what_is_over_is_over_within_minutes():
    """An hour of fault, and no more than three minutes until the evidence is below a half."""
    engine = Engine()
    engine.run(LEARNED)
    engine.run(720, lambda _: 1.15)
    judged = engine.run(36)

    assert judged[-1].evidence < 0.5


def test_faster_is_no_fault_and_begins_anew():
    """A new driver: no alarm then, and none when ten minutes of it are known; slower again is."""
    engine = Engine()
    engine.run(LEARNED)
    faster = engine.run(600, lambda _: 0.8)
    slower = engine.run(30, lambda _: 0.8 * 1.15)

    assert first_alarm([each for each in faster if each]) is None
    assert first_alarm(slower) is not None


def test_a_pause_is_no_alarm():
    """One turn of five seconds takes three times as long."""
    engine = Engine()
    engine.run(LEARNED)

    assert first_alarm(engine.run(120, lambda point: 3.0 if point == 10 else 1.0)) is None


def test_more_load_than_ever_is_no_alarm():
    """Four times as many at once, by the same law."""
    engine = Engine()
    engine.run(LEARNED)
    judged = []
    for _ in range(200):
        load = some_load(engine.chance, engine.place)
        load = Load(4 * load.running, 4 * load.prefill_tokens, 4 * load.kv_cache_ratio)
        seconds = law(load) * engine.chance.lognormvariate(0.0, engine.noise)
        judged.append(engine.slow_down.judge(load, seconds, engine.now_s))
        engine.place += 1

    assert first_alarm(judged) is None
