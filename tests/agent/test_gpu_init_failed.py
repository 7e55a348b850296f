"""GPUs that the driver could not initialise."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.gpu_init_failed import detect
from gpuward.agent.kinds import class_of
from gpuward.agent.model import Event, FindingClass, Gpu
from gpuward.agent.window import Window

H100 = Gpu("GPU-1", 0, "H100", "00000000:1B:00.0", serial="165")


def failed(at_s, gpu="GPU-1", **values):
    identity = f"{at_s}-{gpu}"
    text = "GPU 0000:1b:00.0: RmInitAdapter failed! (0x62:0xffff:2477)"
    return Event("gpu.init_failed", at_s, identity, gpu=gpu, text=text, values=values)


def seen(*events):
    return list(detect(Window.of(now_s=1_000.0, gpus=[H100], events=events)))


def test_one_finding_a_gpu():
    """Each try of somebody to open it is a line; the GPU is one, named or not."""
    found = seen(failed(900.0), failed(910.0, xid_events=4.0), failed(920.0, gpu=""))
    counts = {f.subject.gpu: f.evidence[0].value for f in found}

    assert counts == {"GPU-1": 5.0, "": 1.0}
    assert found[0].subject.gpu_serial == "165"
    assert found[0].since_s == 900.0
    assert {class_of(finding) for finding in found} == {FindingClass.TICKET}


@pytest.mark.parametrize(
    ("age_s", "is_open"),
    [pytest.param(600.0, True, id="ten minutes"), pytest.param(600.1, False, id="longer")],
)
def test_how_long_it_stays(age_s, is_open):
    assert bool(seen(failed(1_000.0 - age_s))) == is_open
