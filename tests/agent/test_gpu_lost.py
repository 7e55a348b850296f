"""A GPU that the driver cannot reach."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.gpu_lost import detect
from gpuward.agent.lost_gpu import LostGpu
from gpuward.agent.model import Action, Driver, Gpu, Outcome
from gpuward.agent.window import Window

H100 = Gpu("GPU-1", 1, "NVIDIA H100 80GB HBM3", "00000000:43:00.0", serial="165")


def findings(*lost, up=True):
    driver = Driver(up=up, lost=lost)
    return list(detect(Window.of(now_s=1_000.0, gpus=[H100], driver=driver)))


def test_nothing_is_lost():
    assert [] == findings()


@pytest.mark.parametrize(
    ("code", "words", "action"),
    [
        pytest.param(15, "GPU 1 cannot be reached by the driver.", None, id="GPU is lost"),
        pytest.param(28, "GPU 1 cannot be reached by the driver.", None, id="not found"),
        pytest.param(16, "GPU 1 needs a reset.", Action.RESET_GPU, id="reset required"),
    ],
)
def test_each_way_to_be_lost(code, words, action):
    """What the driver said decides what would help."""
    (finding,) = findings(LostGpu(1, code, "GPU-1", "nvmlDeviceGetPciInfo: it said so"))

    assert (words, code, action) == (finding.summary, finding.code, finding.action)
    assert ("GPU-1", "165") == (finding.subject.gpu, finding.subject.gpu_serial)
    assert "nvmlDeviceGetPciInfo: it said so" == finding.evidence[0].text


def test_a_gpu_that_never_said_who_it_is():
    (finding,) = findings(LostGpu(4, 15))

    assert ("", "GPU 4 cannot be reached by the driver.") == (finding.subject.gpu, finding.summary)


def test_without_a_driver_nothing_is_known():
    """A driver that is away says of no GPU that it is back."""
    assert [Outcome.UNKNOWN] == [finding.outcome for finding in findings(up=False)]
