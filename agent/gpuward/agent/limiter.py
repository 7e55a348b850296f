"""What can hold a GPU back: its resources, what throttles it, and the host that feeds it."""

from __future__ import annotations

from enum import IntEnum


class Limiter(IntEnum):
    """The numbers are ``gpu_limiter``; of two resources that are equally full the first counts.

    The KV cache comes first because a full one makes requests wait however much else is left.
    """

    NONE = 0
    KV_CACHE = 1
    MEMORY_BANDWIDTH = 2
    COMPUTE = 3
    NVLINK = 4
    PCIE = 5
    POWER = 6
    MEMORY_CAPACITY = 7
    HOST = 8
    HEAT = 9
    POWER_BRAKE = 10
    CLOCK = 11

    @property
    def words(self) -> str:
        return self.name.lower().replace("_", " ").replace("kv", "KV").replace("pcie", "PCIe")
