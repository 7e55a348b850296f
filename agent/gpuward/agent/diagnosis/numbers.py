"""A number for each hypothesis, so that what was named can be a series.

They are in recordings and on ``/metrics``: one that was given is never given again, and a new
hypothesis gets the next.
"""

from __future__ import annotations

from gpuward.agent.diagnosis.verdict import UNDETERMINED

NUMBERS: dict[str, int] = {
    UNDETERMINED: 0,
    "driver_hang": 1,
    "gpu_lost": 2,
    "gpu_fault": 3,
    "thermal": 4,
    "power_cap": 5,
    "ecc_degraded": 6,
    "pcie_downgrade": 7,
    "gpu_slow": 8,
    "restart": 9,
    "fragmentation": 10,
    "noisy_neighbour_memory": 11,
    "noisy_neighbour_compute": 12,
    "host_cpu": 13,
    "upstream": 14,
    "input_anomaly": 15,
    "overload": 16,
    "kv_exhaustion": 17,
    "corrupt_results": 18,
    "telemetry_gap": 19,
    "partition": 20,
    "clock_skew": 21,
}
NAMES = {number: name for name, number in NUMBERS.items()}
