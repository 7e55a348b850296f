"""Which GPU a UUID means: a card, or a slice of one."""

from __future__ import annotations

import uuid

from gpuward.agent.gpu_names import DeviceName, GpuNames
from gpuward.agent.mig_device import MigDevice
from gpuward.agent.model import Gpu

CARD, SLICE, OTHER = (str(uuid.UUID(int=number)) for number in (1, 2, 3))
SLICED = Gpu(f"GPU-{CARD}", 0, "H100", "0", mig=(MigDevice(f"MIG-{SLICE}", 9, 0),))


def name(text, *gpus):
    return GpuNames(gpus)(uuid.UUID(text).bytes)


def test_a_card():
    assert name(CARD, SLICED) == DeviceName(f"GPU-{CARD}", f"GPU-{CARD}")


def test_a_slice_belongs_to_its_card():
    assert name(SLICE, SLICED) == DeviceName(f"GPU-{CARD}", f"MIG-{SLICE}")


def test_what_the_driver_does_not_show_is_a_card():
    """It is so until the driver has been heard: then it has its slice's name."""
    assert name(SLICE) == DeviceName(f"GPU-{SLICE}", f"GPU-{SLICE}")
    assert name(OTHER, SLICED) == DeviceName(f"GPU-{OTHER}", f"GPU-{OTHER}")
