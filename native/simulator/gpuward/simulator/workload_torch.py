"""The workload's memory from torch's own caching allocator, on a real or a simulated GPU.

Nothing here talks to the tap: torch loads it by its entry point, as in any serving process.
"""

from __future__ import annotations

from typing import Any

from gpuward.simulator.allocator import OutOfMemory


class TorchMemory:
    """Buffers are uint8 tensors; a buffer is free once nobody refers to its tensor."""

    def __init__(self, index: int) -> None:
        import torch

        self._torch = torch
        self._device = torch.device("cuda", index)
        torch.cuda.init()

    @property
    def free_bytes(self) -> int:
        return int(self._torch.cuda.mem_get_info(self._device)[0])

    def malloc(self, size: int) -> list[Any]:
        try:
            return [self._torch.empty(size, dtype=self._torch.uint8, device=self._device)]
        except self._torch.OutOfMemoryError as error:
            raise OutOfMemory(str(error)) from error

    def free(self, buffer: list[Any]) -> None:
        # The caller still refers to the list: the tensor must go, not the reference to it.
        buffer.clear()
