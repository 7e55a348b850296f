"""A node with GPUs and no driver for them."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.driver_missing import detect
from gpuward.agent.maintenance import Maintenance
from gpuward.agent.model import Action, Driver, Gpu, Outcome, Sample, SeriesKey
from gpuward.agent.window import NOT_LOOKED, Window

H100 = Gpu("GPU-1", 0, "NVIDIA H100 80GB HBM3", "00000000:1B:00.0")
NOT_LOADED = Driver(up=False, reason="nvmlInit: Driver Not Loaded", code=9)
MAINTENANCE = Maintenance(900.0, 2_000.0, "new driver")


def findings(driver, *, gpus=(), orphans=None):
    samples = []
    if orphans is not None:
        samples = [Sample(SeriesKey("node_gpus_without_driver"), 1_000.0, float(orphans))]
    return list(detect(Window.of(samples, now_s=1_000.0, driver=driver, gpus=gpus)))


@pytest.mark.parametrize(
    ("driver", "gpus", "orphans", "outcomes"),
    [
        pytest.param(Driver(up=True), (H100,), 0, [], id="it is there"),
        pytest.param(NOT_LOADED, (), None, [], id="a node without GPUs"),
        pytest.param(NOT_LOADED, (), 0, [], id="GPUs of another driver"),
        pytest.param(NOT_LOADED, (), 8, [Outcome.BAD], id="never loaded since the boot"),
        pytest.param(NOT_LOADED, (H100,), None, [Outcome.BAD], id="it was there before"),
        pytest.param(Driver(up=False, waiting_s=3.0), (), 8, [], id="it hangs in its first call"),
        pytest.param(NOT_LOOKED, (), 8, [Outcome.UNKNOWN], id="nobody looked"),
        pytest.param(
            Driver(up=False, code=9, maintenance=MAINTENANCE),
            (H100,),
            8,
            [Outcome.UNKNOWN],
            id="somebody is at work",
        ),
    ],
)
def test_detect(driver, gpus, orphans, outcomes):
    """GPUs that were seen, by NVML before or by PCI now, and nobody who drives them."""
    assert [f.outcome for f in findings(driver, gpus=gpus, orphans=orphans)] == outcomes


@pytest.mark.parametrize(
    ("code", "action"),
    [
        pytest.param(9, None, id="not loaded: install one"),
        pytest.param(12, None, id="no library: install one"),
        pytest.param(18, Action.REBOOT_NODE, id="library of another version: load its module"),
    ],
)
def test_advice(code, action):
    (finding,) = findings(Driver(up=False, reason="why.", code=code), orphans=8)

    assert (finding.code, finding.action) == (code, action)
    assert finding.summary == "No driver answers for 8 GPUs: why."
