"""How much of each resource of a GPU can be had in practice: the ceilings of saturation.

Nobody gets 100 % of a peak rate.  A GPU is at its ceiling when it does as much as a well written
kernel does, so every load is told by these and not by the data sheet.
"""

from __future__ import annotations

import re

# NVIDIA's guidance on DCGM's profiling fields: 80 % of SMs busy is needed, near all is full.
SM_ACTIVE = 0.95
# A dense matrix product of the vendor's library keeps tensor cores busy for about this share.
TENSOR_ACTIVE = 0.70
# What streaming reads reach of a memory's theoretical bandwidth.
DRAM_ACTIVE = 0.80
# Packets have headers: what DMA of large blocks reaches of a link's rate.
LINK = 0.80
# Gateways hold an endpoint for full at 80 % of its KV cache (Kubernetes' inference extension); a
# load of 0.9 is that.
KV_CACHE = 0.80 / 0.90
# Without profiling counters: shares of time, not of a resource.
COARSE = 1.0

# Bytes a second and lane in one direction, after the encoding; PCIe base specification.
PCIE_LANE = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}
# Bytes a second and link in one direction, as the driver tells it (research captures, nvidia-smi).
_NVLINK = (
    (re.compile(r"\b(GB200|GB300|B200|B300)\b"), 53.125e9),
    (re.compile(r"\b(H100|H200|H800|H20|GH200)\b"), 26.562e9),
    (re.compile(r"\b(A100|A800)\b"), 25.0e9),
)


def nvlink_bytes_per_second(name: str) -> float | None:
    """Return the rate of one link of the GPU called ``name``; ``None`` when it is not known."""
    return next((rate for pattern, rate in _NVLINK if pattern.search(name)), None)
