"""A small slice of `make bench-prediction`: its parts work, and what they say of themselves holds.

The figures are the benchmark's; here is what must be so in every slice, on the code as it is.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


@pytest.fixture
def modules(monkeypatch):
    """The benchmark's modules, which find one another in their own folder."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import prediction_auc
    import prediction_healthy
    import prediction_oom
    import prediction_warning

    return {
        "auc": prediction_auc,
        "healthy": prediction_healthy,
        "oom": prediction_oom,
        "warning": prediction_warning,
    }


@pytest.mark.parametrize(
    ("scores", "bad", "expected"),
    [
        pytest.param([1, 2, 3, 4], [True, True, False, False], 1.0, id="parted"),
        pytest.param([3, 4, 1, 2], [True, True, False, False], 0.0, id="upside down"),
        pytest.param([1, 1, 1, 1], [True, False, True, False], 0.5, id="all the same"),
        pytest.param([1, 3, 2, 4], [True, True, False, False], 0.75, id="one pair wrong"),
    ],
)
def test_area_under_the_curve(modules, scores, bad, expected):
    assert expected == modules["auc"].auc(scores, bad)


def test_a_step_is_bad_when_an_error_comes_within_ten(modules):
    ooms = [0] * 15 + [1] * 15

    assert [4 < at < 15 for at in range(30)] == modules["auc"].labels(ooms)


def test_headroom_foretells_better_than_the_gap(modules):
    runs = [modules["auc"].run("paged", "", gib, seed) for gib in (7, 9) for seed in range(2)]
    bad = [mark for run in runs for mark in run.bad]

    def area(score):
        return modules["auc"].auc([getattr(s, score) for run in runs for s in run.steps], bad)

    assert sum(bad) > 50
    assert area("headroom_ratio") > 0.9
    assert area("gap") < 0.6


def test_the_cause_of_a_failed_request_is_named_as_the_experiment_shows_it(modules):
    """Of a few hundred, each right but for one in twenty; an experiment leaves no trace."""
    cases = [
        case
        for config in ("", "expandable_segments:True")
        for case in modules["oom"].all_cases(config, 7)
    ]
    cases += [case for seed in range(3) for case in modules["oom"].all_cases("", seed)]
    right = sum(case.said is case.true for case in cases)

    assert len(cases) > 50
    assert right >= 0.95 * len(cases)
    assert cases[-5:] == modules["oom"].all_cases("", 2)[-5:]


def test_a_slow_leak_is_told_five_minutes_ahead(modules):
    ended = modules["warning"].run("leak", 204, 12)

    assert ended.at_s is not None
    assert ended.ahead_s("leak_suspected") >= 300


def test_judging_less_often_hides_no_warning(modules):
    """While there is room, one second in thirty stands for all."""
    often = modules["healthy"].live(112, 0.02, 1)
    seldom = modules["healthy"].live(112, 0.02)

    assert often.warnings == seldom.warnings


def test_an_unknown_option_is_refused():
    command = [sys.executable, FOLDER / "prediction.py", "--no-such-option"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)

    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
