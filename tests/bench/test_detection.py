"""A slice of the detection benchmark: it finds what is slow, leaves alone what is not, and counts.

The benchmark says how soon and how seldom in vain; here is what must be so in every slice of it.
"""

from __future__ import annotations

import math
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

# Seconds of CPU, on a machine that may have others to do.
FOLDER = Path(__file__).parent
KIND = "service.latency.inter_token"


@pytest.fixture
def bench(monkeypatch):
    """The benchmark's modules, which find one another in their own folder."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import detection
    import detection_life
    import detection_null
    import detection_replicas
    import detection_roofline

    return {
        "all": detection,
        "life": detection_life,
        "null": detection_null,
        "replicas": detection_replicas,
        "roofline": detection_roofline,
    }


@pytest.mark.parametrize("engine", ["simulator", "roofline"])
@pytest.mark.parametrize(
    ("by", "a_minute", "within_s"),
    [
        pytest.param(1.15, 0.0, 60.0, id="15 %"),
        pytest.param(1.05, 0.0, 300.0, id="5 %"),
        pytest.param(1.0, 0.01, 360.0, id="1 % a minute before 6 %"),
    ],
)
def test_what_is_slow_is_found_in_time(bench, engine, by, a_minute, within_s):
    """One seed of each; that the onset is told as it was, to half of that time."""
    slowness = bench["replicas"].Slowness("slow", onset_s=1_500.0, by=by, a_minute=a_minute)
    make = bench["all"].ENGINES[engine]
    life = bench["life"].live(make(5, slowness), 2_100, until_kind=KIND)
    (raised,) = [each for each in life.raised if each.kind == KIND]

    assert 1_500.0 < raised.at_s <= 1_500.0 + within_s
    assert raised.since_s == pytest.approx(1_500.0, abs=max(15.0, within_s / 2))
    assert raised.loudness == "ticket"


@pytest.mark.parametrize(("engine", "hours"), [("simulator", 1.0), ("roofline", 6.0)])
def test_what_is_healthy_is_left_alone(bench, engine, hours):
    exposure, lives = bench["null"].lived(engine, bench["all"].ENGINES[engine], hours / 24)

    assert (exposure.alarms, exposure.others) == (0, 0), exposure.example
    assert exposure.gpu_days == pytest.approx(hours / 24)
    assert len(lives[0].points) == pytest.approx(hours * 720, rel=0.01)


def test_days_that_are_drawn_are_judged_like_those_that_are_lived(bench):
    """A fault of ten minutes is one ticket both ways, and none without it."""
    slow = bench["replicas"].Slowness("slow", onset_s=3_000.0, by=1.1)
    lives = [
        bench["life"].live(bench["replicas"].Roofline(3, slowness), 3_600)
        for slowness in (slow, bench["replicas"].HEALTHY)
    ]
    lived = [sum(each.kind == KIND for each in life.raised) for life in lives]

    assert lived == [1, 0]
    assert lived == [bench["null"].alarms_of(life.points) for life in lives]


def test_drawn_days_are_as_many_as_asked_for(bench, monkeypatch):
    """In lives of three days at most, each begun anew."""
    lives = []
    monkeypatch.setattr(bench["null"], "alarms_of", lambda points: lives.append(len(points)) or 2)
    point = bench["life"].Point(None, 0.01, None)
    exposure = bench["null"].drawn("d", [[point] * 1_000], 7.5, seed=1)

    assert lives == [51_840, 51_840, 25_920]
    assert (exposure.gpu_days, exposure.alarms) == (7.5, 6)


def test_the_bound_is_lordens(bench):
    """One standard deviation, white noise, once in 30 days: 132 s (ln 518,400 / 0.5 points)."""
    chance = random.Random(1)
    points = [bench["life"].Point(None, 0.0, chance.gauss(0.0, 0.05)) for _ in range(50_000)]
    life = bench["life"].Life(points=points)

    assert bench["all"].lorden_s(0.05, [life]) == pytest.approx(132.0, rel=0.05)
    assert bench["all"].lorden_s(5.0, [life]) == 5.0


def test_a_percentile_that_was_high_before_is_no_alert(bench):
    life = bench["life"].Life(percentiles={"e2e": [(100.0, 5.0), (200.0, 9.0)]})
    by_percentile = bench["all"]._by_percentile

    assert by_percentile(life, {"e2e": 8.0}, 150.0) == 50.0
    assert by_percentile(life, {"e2e": 4.0}, 150.0) == math.inf
    assert by_percentile(life, {"e2e": 10.0}, 150.0) == math.inf
    assert by_percentile(life, {}, 150.0) == math.inf


def test_a_miss_is_a_miss(bench, monkeypatch, capsys):
    """Too late for its budget, or too many false alarms: status 1 and the word."""
    detection = bench["all"]
    plan = replace(
        detection.QUICK, seeds=1, simulator_days=0.02, roofline_days=0.02, drawn_days=0.05
    )
    monkeypatch.setattr(detection, "QUICK", plan)
    monkeypatch.setattr(detection, "FAULTS", detection.FAULTS[:1])
    monkeypatch.setitem(detection.ENGINES, "simulator", bench["replicas"].Roofline)
    in_time = detection.run(plan)
    monkeypatch.setitem(detection.BUDGET_S, "+15 %", 1.0)
    late = detection.run(plan)
    monkeypatch.setitem(detection.BUDGET_S, "+15 %", 60.0)
    monkeypatch.setattr(bench["null"], "alarms_of", lambda _: 7)
    loud = detection.run(plan)

    assert (in_time, late, loud) == (True, False, False)
    assert capsys.readouterr().out.count("MISSED") == 2 + 1


def test_less_exposure_than_ninety_days_is_no_proof(bench):
    """Silence for a week says nothing of once a month."""
    detection = bench["all"]
    plan = detection.Plan()
    week = bench["null"].Exposure("a week", 7.0, 0, 0)
    months = bench["null"].Exposure("months", 90.0, 3, 0)

    assert not detection._report_null(plan, [week])
    assert detection._report_null(plan, [months])
    assert not detection._report_null(plan, [replace(months, alarms=4)])


@pytest.mark.parametrize(
    ("alarms", "verdict"),
    [pytest.param(0, (0, "kept"), id="quiet"), pytest.param(1, (1, "MISSED"), id="too many")],
)
def test_false_alarms_alone(bench, monkeypatch, capsys, alarms, verdict):
    """No fault is injected; the exposure stands beside the count, and what of it is not lived."""
    detection = bench["all"]
    plan = replace(detection.QUICK, simulator_days=0.02, roofline_days=0.02, drawn_days=0.05)
    monkeypatch.setattr(detection, "QUICK", plan)
    monkeypatch.setitem(detection.ENGINES, "simulator", bench["replicas"].Roofline)
    monkeypatch.setattr(bench["null"], "alarms_of", lambda _: alarms)
    monkeypatch.setattr(detection, "delays", lambda *_: pytest.fail("a fault was injected"))
    monkeypatch.setattr(sys, "argv", ["detection.py", "--null", "--quick"])

    status, out = detection.main(), capsys.readouterr().out

    count = f"{alarms} false alarms in 0.1 GPU-days (at most one in 30): "
    assert (status, out.partition(count)[2].strip()) == verdict
    assert "bootstrap" in out


def test_the_other_engine_serves_what_it_is_asked(bench):
    """An hour: tokens and prompts add up, and more load is slower."""
    figures = []
    for rate in (1.0, 8.0):
        engine = bench["roofline"].RooflineEngine(1, rate, swing=0.0)
        engine.advance(3_600.0)
        counters = engine.counters
        assert counters["replica_requests_total"] == pytest.approx(3_600 * rate, rel=0.25)
        assert 0.0 < counters["replica_kv_cache_usage_ratio"] < 1.0
        figures.append(
            counters["replica_inter_token_seconds_total"] / counters["replica_inter_tokens_total"]
        )

    assert 0.006 < figures[0] < figures[1] < 0.05


def test_the_command_says_what_its_figures_are_of():
    """Help is there; a run of it takes minutes and is the benchmark's business."""
    done = subprocess.run(
        [sys.executable, FOLDER / "detection.py", "--help"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 0
    assert "--quick" in done.stdout
    assert "--null" in done.stdout
