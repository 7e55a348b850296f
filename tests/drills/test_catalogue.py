"""The catalogue of signals against the agent's own tables: nothing named that is not, and reverse.

Prints the coverage: ``pytest -s tests/drills/test_catalogue.py -k coverage``.
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
}
# Measured by work of the agent's own; who is told what, and by which clock.
OF_PROBES = ("gpu_probe_", "probe_")
OF_THE_AGENT = {"node_coordinator_silence_seconds", "node_clock_step_seconds"}
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


def test_coverage(catalogue):
    """Whatever is not implemented says why; the count is printed for who asks."""
    done = [row for row in catalogue if row.is_implemented]
    wanted = [row for row in catalogue if row.is_implemented or not row.left_out]
    print(f"\n{len(done)} of {len(catalogue)} rows; not implemented, or not all of it:")
    for row in catalogue:
        if row.left_out:
            print(f"  {'part' if row.is_implemented else 'none'} of {row.what}: {row.left_out}")
    print(f"{len(done) / len(wanted):.0%} of the rows that are marked implementable")

    assert done == wanted
