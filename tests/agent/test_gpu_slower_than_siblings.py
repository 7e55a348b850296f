"""A GPU that does less than those beside it which serve the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuward.agent.detectors.gpu_slower_than_siblings import detect
from gpuward.agent.mig_device import MigDevice
from gpuward.agent.model import Process
from gpuward.agent.siblings import siblings

CLOCK, POWER, DRAM = "gpu_sm_clock_hertz", "gpu_power_draw_watts", "gpu_dram_active_ratio"
ACTIVE, LAUNCH = "gpu_sm_active_ratio", "probe_launch_seconds"
TENSOR = "gpu_tensor_active_ratio"
BUSY = {TENSOR: 0.2, ACTIVE: 0.8, CLOCK: 2.0e9, POWER: 500, DRAM: 0.5, LAUNCH: 8e-6}


@pytest.mark.parametrize(
    ("first", "found"),
    [
        pytest.param({}, [], id="all alike"),
        pytest.param({CLOCK: 1.8e9}, [], id="nine tenths of the clock"),
        pytest.param({CLOCK: 1.79e9}, [CLOCK], id="a little less"),
        pytest.param({CLOCK: [2.0e9] * 299 + [1.0e9]}, [], id="for a second"),
        pytest.param({CLOCK: [1.0e9] * 299 + [2.0e9]}, [], id="not any more"),
        pytest.param({CLOCK: 1.0e9, ACTIVE: 0.1}, [], id="it has nothing to do"),
        pytest.param({CLOCK: []}, [], id="its clock is not known"),
        pytest.param({POWER: 300}, [], id="six tenths of the power"),
        pytest.param({POWER: 299}, [POWER], id="less power"),
        pytest.param({DRAM: 0.29}, [DRAM], id="less memory moved"),
        pytest.param({CLOCK: 1.0e9, ACTIVE: 0.65}, [CLOCK], id="about as busy as the others"),
        pytest.param({CLOCK: 1.0e9, ACTIVE: 0.63}, [], id="the others do more"),
        pytest.param({CLOCK: 1.0e9, TENSOR: 0.26}, [], id="it computes more: the power limit"),
        pytest.param({CLOCK: 1.0e9, TENSOR: 0.24}, [CLOCK], id="it computes as much"),
        pytest.param({POWER: 200, ACTIVE: 0.6}, [], id="less power for less work"),
        pytest.param({LAUNCH: 16e-6}, [], id="twice as late"),
        pytest.param({LAUNCH: 17e-6}, [LAUNCH], id="later"),
        pytest.param({LAUNCH: [90e-6] * 299 + [8e-6]}, [], id="later, but for once"),
        pytest.param({LAUNCH: [90e-6] * 4}, [], id="four launches are too few"),
        pytest.param({LAUNCH: [90e-6] * 5}, [LAUNCH], id="five are enough"),
    ],
)
def test_detect(serving_window, first, found):
    findings = list(detect(serving_window(BUSY, first=first, gpus=4)))

    assert found == [finding.evidence[0].name for finding in findings]
    assert {finding.subject.gpu for finding in findings} <= {"GPU-0"}


@pytest.mark.parametrize(
    ("gpus", "expected"), [pytest.param(3, 0, id="two siblings"), pytest.param(4, 1, id="three")]
)
def test_three_siblings_make_a_usual(serving_window, gpus, expected):
    window = serving_window(BUSY, first={CLOCK: 1.0e9}, gpus=gpus)

    assert expected == len(list(detect(window)))


def test_probe_workers_make_nobody_another(serving_window):
    """Each GPU has one of its own, in a unit of its own."""
    window = serving_window(BUSY, gpus=4)
    workers = [
        Process(f"probe-{n}", 900 + n, 1, (gpu.uuid,), unit=f"gpuward-probe@{gpu.uuid}.service")
        for n, gpu in enumerate(window.gpus)
    ]
    inventory = replace(window.inventory, processes=(*window.processes, *workers), found={})

    assert siblings(replace(window, inventory=inventory)) == (window.gpus,)


def test_idle_siblings_are_no_yardstick(serving_window):
    window = serving_window(BUSY | {ACTIVE: 0.1}, first={CLOCK: 1.0e9, ACTIVE: 0.9}, gpus=8)

    assert [] == list(detect(window))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"name": "NVIDIA A100-SXM4-80GB"}, id="of another kind"),
        pytest.param({"mig": (MigDevice("MIG-1", 1, 0),)}, id="cut into slices"),
    ],
)
def test_others_are_no_siblings(serving_window, change):
    window = serving_window(BUSY, gpus=4)
    first, *others = window.gpus
    gpus = (replace(first, **change), *others)
    inventory = replace(window.inventory, gpus=gpus, found={})

    assert (tuple(others),) == siblings(replace(window, inventory=inventory))


def test_another_model_is_another_load(serving_window):
    window = serving_window(BUSY, gpus=4)
    first, *others = window.processes
    processes = (replace(first, model="other"), *others)
    inventory = replace(window.inventory, processes=processes, found={})

    assert (window.gpus[1:],) == siblings(replace(window, inventory=inventory))
