"""A budget that is missed is never shown as kept, and `make bench` says so by its exit status."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def _load(name):
    # The benchmarks are programs, not a package: they find one another in their own folder.
    spec = importlib.util.spec_from_file_location(f"bench_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


figures = _load("figures")


@pytest.mark.parametrize(
    ("value", "budget", "at_least", "verdict"),
    [
        pytest.param(24.9, 25.0, False, "kept", id="below a ceiling"),
        pytest.param(25.0, 25.0, False, "kept", id="at a ceiling"),
        pytest.param(25.1, 25.0, False, "MISSED", id="above a ceiling"),
        pytest.param(2999.0, 3000.0, True, "MISSED", id="below a floor"),
        pytest.param(3000.0, 3000.0, True, "kept", id="at a floor"),
        pytest.param(1e9, None, False, "told", id="no budget"),
        pytest.param(float("nan"), 25.0, False, "MISSED", id="nothing measured, ceiling"),
        pytest.param(float("nan"), 3000.0, True, "MISSED", id="nothing measured, floor"),
    ],
)
def test_verdict(value, budget, at_least, verdict):
    figure = figures.Figure("tap tick", value, "us", budget, at_least)

    assert verdict == figure.verdict
    assert (verdict == "MISSED") == figure.is_missed


def test_of_runs_is_the_median_and_shows_the_extremes():
    figure = figures.of_runs("tap tick", [3.0, 1.0, 2.0, 9.0, 2.5], "us")

    assert (2.5, (1.0, 9.0)) == (figure.value, figure.spread)


def test_table():
    rows = figures.table(
        [
            figures.of_runs("tap tick", [17.8, 18.2, 18.0], "us", budget=25.0, ratio="2 x floor"),
            figures.Figure("ingest", 273.4, "/s", 3000.0, at_least=True),
        ]
    ).splitlines()

    assert rows == [
        "what      figure  lowest..highest  budget      against    verdict",
        "tap tick  18 us   17.8..18.2       <= 25 us    2 x floor  kept",
        "ingest    273 /s                   >= 3000 /s             MISSED",
    ]


def test_every_benchmark_has_a_name():
    """The programs load, and the table of them is what `--only` takes; nothing is measured here."""
    command = [sys.executable, FOLDER / "run.py", "--only", "none"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)

    assert ended.returncode == 2
    assert "tap-tick" in ended.stderr
    assert "Traceback" not in ended.stderr
