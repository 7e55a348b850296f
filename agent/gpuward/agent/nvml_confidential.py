"""Whether a GPU works in confidential mode, as rows of the table in ``nvml_calls``.

Then every copy goes through encrypted buffers and every client belongs to an attested session, so
what a probe measures there is not the hardware, and a context is not the agent's to make.  The mode
is the node's: NVML is asked without a handle, and cards before Hopper have none.
"""

from __future__ import annotations

import ctypes
from typing import Any

from gpuward.agent.nvml_call import Call, Lane

# NVML_CC_SYSTEM_FEATURE_DISABLED and NVML_CC_SYSTEM_MULTIGPU_NONE.
OFF = 0
SIGNAL = "gpu_confidential_mode"


def read_settings(nvml: Any, _handle: Any) -> bool:
    """Return whether the GPUs are confidential, each by itself or together behind PCIe."""
    settings = nvml.c_nvmlSystemConfComputeSettings_v1_t()
    # The binding hands this one's code to its callers.
    code = nvml.nvmlSystemGetConfComputeSettings(ctypes.byref(settings))
    if code != 0:
        raise nvml.NVMLError(code)
    return bool(settings.ccFeature != OFF or settings.multiGpuMode != OFF)


def read_state(nvml: Any, _handle: Any) -> bool:
    """Return the same for a driver that knows nothing of GPUs together."""
    return bool(nvml.nvmlSystemGetConfComputeState().ccFeature != OFF)


CONFIDENTIAL = (
    Call("nvmlSystemGetConfComputeSettings", Lane.SLOW, {SIGNAL: float}, read=read_settings),
    Call("nvmlSystemGetConfComputeState", Lane.SLOW, {SIGNAL: float}, read=read_state),
)
