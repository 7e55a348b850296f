"""Every finding that the driver's own words can raise, on every profile, from both sides.

One GPU of each machine is busy and just well in all things at once, for longer than any of them
would have to last; then just not well; then healthy again.  The figures go through the library, the
binding and the NVML child to the page.  What a product has not got says nothing, however bad its
number is.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from gpuward.agent.signals import SIGNALS, Scope

pytestmark = pytest.mark.simulator

FOLDER = Path(__file__).parent
STEP_S = 2.0
# Each longer than what has to last longest; a rate is gone with its window, and ten minutes more.
WELL_UNTIL_S, ILL_UNTIL_S, QUIET_UNTIL_S = 440.0, 880.0, 1_900.0


@pytest.fixture(scope="module")
def edges():
    spec = importlib.util.spec_from_file_location("edges", FOLDER / "edges.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Subject:
    """The GPU that the drill is about: brought to one side of its edges, step by step."""

    def __init__(self, it, edges):
        self._it, self._rates, self._looks = it, {}, 0
        self.row = it.state.gpu(0)
        self.duties = edges.DUTIES
        self.edges = (*edges.FLAGS, *edges.COUNTS, *edges.LEVELS, *edges.of_product(self.row))
        memory = self.row.memory_total_bytes - self.row.memory_reserved_bytes
        held = memory * 96 // 100 - edges.GIB * 9 // 10
        assert it.state.take(0, os.getpid(), held, mig_device=1 if self.row.mig_mode else None)

    def work(self):
        self.row.gpm_sm_active_permille, self.row.utilization_gpu_percent = 900, 97
        self.row.pcie_link_generation = self.row.pcie_link_generation_max
        self.row.performance_state = 0

    def be(self, side):
        """Return what brings the GPU to ``side`` before each step."""

        def follow():
            self._looks += 1
            for edge in self.edges:
                for name, value in getattr(edge, side).items():
                    setattr(self.row, name, self._rise(name, value))
            self.row.clocks_event_reasons = sum(
                duty.reason for duty in self.duties if self._looks % getattr(duty, side) == 0
            )
            return False

        return follow

    def _rise(self, name, value):
        if isinstance(value, int):
            return value
        self._rates[name] = self._rates.get(name, 0.0) + value.per_second * STEP_S
        return int(self._rates[name])

    def recover(self):
        """Make the GPU well in everything; counters stand, or are reset as a reload does."""
        for edge in self.edges:
            for name, value in (edge.well | edge.over).items():
                if isinstance(value, int):
                    setattr(self.row, name, value)
        self.row.memory_driver_bytes = 0
        self.row.power_limit_enforced_milliwatts = self.row.power_limit_default_milliwatts
        self.row.sm_clock_megahertz = self.row.sm_clock_max_megahertz
        self.row.clocks_event_reasons = 0


def shown_on(it, page):
    """Return the signals of GPUs that the page has a figure of."""
    return {
        signal.name
        for signal in SIGNALS.values()
        if signal.scope is Scope.GPU and it.value(page, signal.name, 0) is not None
    }


@pytest.mark.parametrize("name", ["h100-sxm-x8", "h100-mig-x1", "l40s-x4", "rtx4090-x1", "t4-x4"])
async def test_both_sides(node, edges, name):
    """Nothing is found on the well side, all that the product has on the other, and it is over."""
    async with node(name) as it:
        gpu = Subject(it, edges)
        gpu.work()
        await it.play(WELL_UNTIL_S, step_s=STEP_S, wanted=gpu.be("well"))
        early = ours(it.shown)
        await it.play(ILL_UNTIL_S, step_s=STEP_S, wanted=gpu.be("ill"))
        page, found = it.page, ours(it.shown)
        gpu.recover()
        await it.play(QUIET_UNTIL_S, step_s=STEP_S)

    lacks = edges.LACKS[name]
    expected = {
        each.kind
        for each in (*gpu.edges, *gpu.duties)
        if not edges.NEEDS.get(each.kind, frozenset()) & lacks
    }
    assert (early, found) == (set(), expected)
    for each in gpu.edges:
        value = it.value(page, each.metric, 0)
        if each.kind in expected:
            assert (each.kind, value is not None and value >= each.least) == (each.kind, True)
    assert {key[0] for key in it.shown if key not in it.cleared_s} & found == set()
    everything = {s.name for s in SIGNALS.values() if s.scope is Scope.GPU} - edges.OF_ENGINES
    assert shown_on(it, page) == {
        signal for signal in everything - lacks if not signal.startswith(edges.OF_OTHERS)
    }


def ours(keys):
    """Return the kinds about hardware and driver, all of GPU 0; of memory are tests of its own."""
    kinds = {key[0] for key in keys if not key[0].startswith("process.")}
    assert {key[1] for key in keys} <= {0}
    return kinds
