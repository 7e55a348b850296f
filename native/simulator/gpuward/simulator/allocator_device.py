"""What the allocator's replica sees of a GPU: an amount of memory to take from and give back to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Device(Protocol):
    """Memory of one GPU, as ``cudaMalloc``, ``cudaFree`` and ``cudaMemGetInfo`` see it."""

    @property
    def index(self) -> int: ...

    @property
    def total_bytes(self) -> int: ...

    @property
    def free_bytes(self) -> int: ...

    def reserve(self, size: int) -> bool:
        """Take ``size`` bytes; false, with nothing taken, when they are not there."""
        ...

    def release(self, size: int) -> None:
        """Give back ``size`` bytes of those taken."""
        ...


@dataclass(slots=True)
class FixedDevice:
    """A GPU that nobody else uses."""

    total_bytes: int
    index: int = 0
    used_bytes: int = 0

    @property
    def free_bytes(self) -> int:
        return self.total_bytes - self.used_bytes

    def reserve(self, size: int) -> bool:
        if size > self.free_bytes:
            return False
        self.used_bytes += size
        return True

    def release(self, size: int) -> None:
        self.used_bytes -= size
