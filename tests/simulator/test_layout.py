"""The mapped layout is one: what Python writes is what the compiled libraries read."""

import ctypes

import pytest

from gpuward.simulator import layout
from gpuward.simulator.libraries import NVML_LIBRARY

pytestmark = pytest.mark.simulator

STRUCTURES = {
    "Process": layout.ProcessRow,
    "Event": layout.EventRow,
    "MigDevice": layout.MigRow,
    "Gpu": layout.GpuRow,
    "State": layout.StateRow,
}


def test_layout_equals_compiled_layout(libraries):
    """Every member has the same offset and size in ctypes and in C++, and none is missing."""
    library = ctypes.CDLL(str(libraries / NVML_LIBRARY))
    library.gpuward_state_layout.restype = ctypes.c_char_p
    compiled = dict(
        line.split(" ", 1) for line in library.gpuward_state_layout().decode().splitlines()
    )

    mirrored = {
        f"{owner}.{name}": f"{getattr(structure, name).offset} {getattr(structure, name).size}"
        for owner, structure in STRUCTURES.items()
        for name, *_ in structure._fields_
    }
    assert mirrored == compiled
