"""Every kind and every threshold of the detectors has a case on both sides: held by moving each.

``threshold_mutants`` moves a threshold by a tenth, down and up, and runs the detector's own tests;
one that none of them notices is named here.  How long each kind must last, and be gone, is tried on
the table of kinds itself.  ``make test`` shows the coverage at its end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuward.agent.detectors import DETECTORS
from gpuward.agent.hysteresis import Change, State, Verdict, fold
from gpuward.agent.kinds import KINDS
from gpuward.agent.model import Finding, Subject

FOLDER = Path(__file__).parent
A_LITTLE_S = 0.5


def of_detectors():
    """Return the files that test detectors and need nothing but windows."""
    return [str(path) for path in FOLDER.glob("test_*.py") if "agent.detectors" in path.read_text()]


def test_each_threshold_is_noticed_on_both_sides(tmp_path, record_property):
    """A threshold that could as well be a tenth less, or more, is tested on one side only."""
    seen = tmp_path / "thresholds.json"
    files = [path for path in of_detectors() if Path(path) != Path(__file__)]
    plugins = ["-p", "threshold_mutants", "-p", "no:randomly", "-p", "no:cacheprovider"]
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", *plugins, *files],
        env=os.environ | {"GPUWARD_THRESHOLDS": str(seen), "PYTHONPATH": str(FOLDER)},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    noticed = json.loads(seen.read_text())
    record_property(
        "coverage",
        f"thresholds of the detectors: {sum(noticed.values())} of {len(noticed)} sides of"
        f" {len(noticed) // 2} are held by a test",
    )

    assert [name for name, is_noticed in noticed.items() if not is_noticed] == []
    assert len(noticed) > 150


def test_each_detector_has_a_table():
    """No kind is judged by a module whose name no test imports."""
    texts = [Path(path).read_text() for path in of_detectors()]
    modules = {detector.detect.__module__.rpartition(".")[2] for detector in DETECTORS}

    assert [
        name for name in sorted(modules) if not any(f"detectors.{name} import" in t for t in texts)
    ] == []


def opened_after(kind, bad_s, gone_s=0.0):
    """Return what is open of ``kind`` that was bad for so long, and then gone for so long."""
    finding = Finding(kind.name, Subject(gpu="GPU-1"), "It is so.")
    state = State("i")
    looks = [(0.0, True), (bad_s, True)]
    if gone_s:
        looks += [(bad_s + A_LITTLE_S, False), (bad_s + A_LITTLE_S + gone_s, False)]
    changes = []
    for at_s, is_bad in looks:
        found = (finding,) if is_bad else ()
        state, changed = fold(state, [Verdict(kind.name, found)], at_s)
        changes += [change for change, _ in changed]
    return [opened.finding.kind for opened in state.open_findings], changes


@pytest.mark.parametrize("name", [detector.kind.name for detector in DETECTORS])
def test_each_kind_lasts_and_is_gone_as_its_page_says(name):
    """It is raised when it has lasted, and cleared when it has been gone: neither sooner."""
    kind = KINDS[name]
    lasts_s, gone_s = kind.raise_after_s, kind.clear_after_s

    if lasts_s:
        assert opened_after(kind, lasts_s - A_LITTLE_S) == ([], [])
    assert opened_after(kind, lasts_s + A_LITTLE_S) == ([name], [Change.RAISED])
    if gone_s:
        still = opened_after(kind, lasts_s + A_LITTLE_S, gone_s - A_LITTLE_S)
        assert still == ([name], [Change.RAISED])
    over = opened_after(kind, lasts_s + A_LITTLE_S, gone_s + A_LITTLE_S)
    assert over == ([], [Change.RAISED, Change.CLEARED])
