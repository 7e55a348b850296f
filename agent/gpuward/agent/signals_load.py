"""Signals that the agent works out about a GPU's load and its best; rows of ``SIGNALS``.

How loads are worked out is in ``saturation``, what a GPU was once seen to do in ``learned_best``.
"""

from __future__ import annotations

STALE_S = 20.0
SLOW_S = 90.0

LOAD = (
    ("gpu_compute_load_ratio", "Compute in use, by what can be had in practice.", STALE_S),
    ("gpu_memory_bandwidth_load_ratio", "Memory bandwidth in use, likewise.", STALE_S),
    ("gpu_memory_capacity_load_ratio", "Memory that can neither be had nor be freed.", STALE_S),
    ("gpu_kv_cache_load_ratio", "KV cache in use, by where requests begin to wait.", STALE_S),
    ("gpu_power_load_ratio", "Power drawn, by the limit in force.", STALE_S),
    ("gpu_pcie_load_ratio", "PCIe traffic of the busier direction, likewise.", STALE_S),
    ("gpu_nvlink_load_ratio", "NVLink traffic of the busier direction, likewise.", STALE_S),
    (
        "gpu_limiter",
        "What holds the GPU back, by number: gpuward_gpu_load_info has the words.",
        STALE_S,
    ),
    (
        "gpu_load_verdict",
        "What load and service are together, by number: 0 ok, 1 efficient, 2 and up: trouble.",
        STALE_S,
    ),
    ("gpu_pcie_link_generation_best", "Best PCIe generation that the card ever had.", SLOW_S),
    ("gpu_pcie_link_width_best", "Most PCIe lanes that the card ever had.", SLOW_S),
    ("gpu_sm_clock_best_hertz", "Best clock that the card ever held under load.", SLOW_S),
)
