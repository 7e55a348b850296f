"""The catalogue of signals against the agent's own tables: nothing named that is not, and reverse.

``make test`` shows the coverage at its end, and so does ``pytest tests/drills/test_catalogue.py``.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from gpuward.agent.kinds import KINDS
from gpuward.agent.model import CauseDomain
from gpuward.agent.signals import SIGNALS, Scope

FOLDER = Path(__file__).parent
METRICS = FOLDER.parent.parent / "docs" / "metrics.md"
# About memory inside processes, of which taps tell and not the hardware.
OF_TAPS = {
    "gpu_memory_tapped_ratio",
    "gpu_memory_explained_ratio",
    "gpu_memory_degraded_bytes",
    "gpu_memory_blind_bytes",
    "node_taps_readable",
}
# Measured by work of the agent's own; who is told what, and by which clock.
OF_PROBES = ("gpu_probe_", "probe_")
OF_THE_AGENT = {"node_coordinator_silence_seconds", "node_clock_step_seconds"}
# Where a finding has to be named as raised.
DRILLS = frozenset({"edges", "test_driver", "test_faults", "test_kernel_log", "test_load"})
# Judged by what probes and servers say, each in tests of its own.
JUDGED_OTHERWISE = ("gpu.probe.", "service.")


@pytest.fixture(scope="module")
def catalogue():
    spec = importlib.util.spec_from_file_location("catalogue", FOLDER / "catalogue.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CATALOGUE


def test_names_exist(catalogue):
    """Each signal, kind and family that a row names is one of the agent's."""
    page = METRICS.read_text()

    assert [
        name
        for row in catalogue
        for name, there in (
            *((signal, signal in SIGNALS) for signal in row.signals),
            *((kind, kind in KINDS) for kind in row.kinds),
            *((family, f"`{family}`" in page) for family in row.families),
        )
        if not there
    ] == []


def test_no_signal_is_forgotten(catalogue):
    """Each signal of node and GPU stands in the catalogue."""
    there = {signal for row in catalogue for signal in row.signals}
    ours = {s.name for s in SIGNALS.values() if s.scope in {Scope.NODE, Scope.GPU}}

    missing = ours - there - OF_TAPS - OF_THE_AGENT
    assert {name for name in missing if not name.startswith(OF_PROBES)} == set()


def test_no_kind_is_forgotten(catalogue):
    """Each kind of finding about hardware or driver stands in the catalogue."""
    there = {kind for row in catalogue for kind in row.kinds}
    ours = {
        kind.name for kind in KINDS.values() if kind.domain in {CauseDomain.GPU, CauseDomain.DRIVER}
    }

    assert {kind for kind in ours - there if not kind.startswith(JUDGED_OTHERWISE)} == set()


def test_each_kind_is_drilled():
    """Each kind of finding about hardware or driver is raised on the simulated driver."""
    drills = [path.read_text() for path in FOLDER.glob("*.py") if path.stem in DRILLS]
    ours = {
        kind.name
        for kind in KINDS.values()
        if kind.domain in {CauseDomain.GPU, CauseDomain.DRIVER}
        and not kind.name.startswith(JUDGED_OTHERWISE)
    }

    assert {kind for kind in ours if not any(f'"{kind}"' in text for text in drills)} == set()


def test_coverage(catalogue, record_property):
    """Whatever is not implemented says why; the count is shown at the end of the run."""
    done = [row for row in catalogue if row.is_implemented]
    wanted = [row for row in catalogue if row.is_implemented or not row.left_out]
    record_property(
        "coverage",
        f"signals of the catalogue: {len(done)} of {len(catalogue)} rows, which is"
        f" {len(done) / len(wanted):.0%} of those marked implementable; left out:",
    )
    for row in catalogue:
        if row.left_out:
            how_much = "part" if row.is_implemented else "all"
            record_property("coverage", f"  {how_much} of {row.what}: {row.left_out}")

    assert done == wanted
