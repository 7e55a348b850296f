"""Confidential computing: on, off, or nothing that the node has."""

from __future__ import annotations

import pytest

from gpuward.simulator.layout import Capability

pytestmark = pytest.mark.simulator

STATE = "(lambda s: (s.environment, s.ccFeature, s.devToolsMode))(nvmlSystemGetConfComputeState())"
SETTINGS = (
    "(lambda s: (nvmlSystemGetConfComputeSettings(byref(s)), s.ccFeature, s.multiGpuMode))"
    "(c_nvmlSystemConfComputeSettings_v1_t())"
)
MEMORY = (
    "(lambda m: (m.protectedMemSizeKib, m.unprotectedMemSizeKib))"
    "(nvmlDeviceGetConfComputeMemSizeInfo(gpu()))"
)
ALL_KIB = 81559 << 10


def test_off(h100):
    """A card that could, and does not: all its memory is unprotected."""
    assert h100.ask(STATE) == (0, 0, 0)
    assert h100.ask(SETTINGS) == (0, 0, 0)
    assert h100.ask(MEMORY) == (0, ALL_KIB)


def test_on(state, h100):
    """In production, without developers' tools; all memory is protected."""
    state.gpu(0).capabilities |= Capability.CONFIDENTIAL

    assert h100.ask(STATE) == (2, 1, 0)
    assert h100.ask(SETTINGS) == (0, 1, 0)
    assert h100.ask(MEMORY) == (ALL_KIB, 0)


def test_wrong_version_of_settings(h100):
    settings = "nvmlSystemGetConfComputeSettings(byref(c_nvmlConfComputeSystemState_t(7)))"

    assert h100.ask(settings) == 25


@pytest.mark.parametrize("name", ["l40s-x4", "rtx4090-x1", "t4-x4"])
def test_not_before_hopper(make_state, asker, name):
    assert asker(make_state(name)).ask(STATE) == "NotSupported"
