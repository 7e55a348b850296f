"""MIG devices of a binding that a test writes: whose activity, and what is given back."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gpuward.agent import nvml_gpm
from gpuward.agent.nvml_device import Slot
from gpuward.agent.nvml_mig import Slices

NOT_SUPPORTED = 3


class NvmlError(Exception):
    def __init__(self, value):
        self.value = value


class Binding:
    """One GPU: ``cut`` is (GPU instance, compute instance) of each MIG device."""

    NVMLError = NvmlError
    NVML_GPM_METRICS_GET_VERSION = 1

    def __init__(self, cut):
        self.cut = cut
        self.measures = True
        self.asked, self.held = [], set()

    def nvmlDeviceGetMigMode(self, _):  # noqa: N802
        return 1, 1

    def nvmlDeviceGetMaxMigDeviceCount(self, _):  # noqa: N802
        return len(self.cut)

    def nvmlDeviceGetMigDeviceHandleByIndex(self, _, index):  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, index):  # noqa: N802
        return "MIG-{}-{}".format(*self.cut[index])

    def nvmlDeviceGetGpuInstanceId(self, index):  # noqa: N802
        return self.cut[index][0]

    def nvmlDeviceGetComputeInstanceId(self, index):  # noqa: N802
        return self.cut[index][1]

    def nvmlDeviceGetMemoryInfo(self, *_):  # noqa: N802
        return SimpleNamespace(total=10, used=4, free=6)

    def nvmlGpmSampleAlloc(self):  # noqa: N802
        self.held.add(len(self.asked) + len(self.held))
        return max(self.held)

    def nvmlGpmSampleFree(self, sample):  # noqa: N802
        self.held.remove(sample)

    def nvmlGpmMigSampleGet(self, _, instance, sample):  # noqa: N802
        self.asked.append(instance)
        if not self.measures:
            raise NvmlError(NOT_SUPPORTED)
        return sample

    def c_nvmlGpmMetricsGet_t(self):  # noqa: N802
        metrics = [SimpleNamespace(nvmlReturn=0, value=0.0) for _ in nvml_gpm.METRICS]
        return SimpleNamespace(metrics=metrics)

    def nvmlGpmMetricsGet(self, request):  # noqa: N802
        # As many per cent as the GPU instance that was asked last.
        for metric in request.metrics:
            metric.value = float(self.asked[-1])


@pytest.fixture
def slices(monkeypatch):
    monkeypatch.setattr(nvml_gpm, "SHORTEST_S", 0.0)
    monkeypatch.setattr(nvml_gpm, "number_of", getattr)

    def of(*cut):
        binding = Binding(cut)
        found = Slices(binding, "handle", Slot(0, NvmlError))
        found.find()
        return binding, found

    return of


def active(slices):
    return {uuid: values.get("gpu_mig_sm_active_ratio") for uuid, values in slices.read().items()}


def test_compute_instances_share_the_activity_of_their_gpu_instance(slices):
    """It is measured once; a first sample is of no time yet."""
    binding, found = slices((7, 0), (7, 1), (9, 0))

    assert set(active(found).values()) == {None}
    assert active(found) == {"MIG-7-0": 0.07, "MIG-7-1": 0.07, "MIG-9-0": 0.09}
    assert sorted(binding.asked) == [7, 7, 9, 9]
    assert {name for name in found.read()["MIG-9-0"] if "pcie" in name or "nvlink" in name} == set()


def test_what_is_cut_anew_is_given_back(slices):
    """The samples of a GPU instance that is gone; and all of them with the GPU."""
    binding, found = slices((7, 0), (9, 0))
    found.read()
    held = len(binding.held)
    binding.cut = [(9, 0)]
    found.find()
    left = len(binding.held)
    found.close()

    assert (held, left, len(binding.held)) == (4, 2, 0)


def test_a_driver_that_cannot_measure_them_is_asked_once(slices):
    """Their memory is told all the same."""
    binding, found = slices((7, 0), (9, 0))
    binding.measures = False
    found.read()
    values = found.read()

    assert len(binding.asked) == 1
    assert values["MIG-9-0"]["gpu_mig_memory_used_bytes"] == 4.0
    assert len(binding.held) == 0
