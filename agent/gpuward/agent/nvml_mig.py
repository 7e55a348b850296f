"""The MIG devices of a GPU: who they are, and how full and busy each is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpuward.agent.mig_device import MigDevice
from gpuward.agent.nvml_call import Call, Lane
from gpuward.agent.nvml_calls import MEMORY_V2
from gpuward.agent.nvml_conditions import Unavailable, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.nvml_device import Slot

MEMORY = Call(
    "nvmlDeviceGetMemoryInfo",
    Lane.FAST,
    {
        "gpu_mig_memory_total_bytes": lambda memory: float(memory.total),
        "gpu_mig_memory_used_bytes": lambda memory: float(memory.used),
        "gpu_mig_memory_free_bytes": lambda memory: float(memory.free),
    },
    (MEMORY_V2,),
)


@dataclass(frozen=True, slots=True)
class Slice:
    """A MIG device and the handle to ask it with."""

    device: MigDevice
    handle: Any


class Slices:
    """The MIG devices of one GPU, as they were when last looked for."""

    def __init__(self, nvml: Any, handle: Any, slot: Slot) -> None:
        self._nvml = nvml
        self._handle = handle
        self._slot = slot
        self._slices: tuple[Slice, ...] = ()

    @property
    def devices(self) -> tuple[MigDevice, ...]:
        return tuple(each.device for each in self._slices)

    def find(self) -> None:
        """Look again: somebody may have cut the GPU anew."""
        self._slices = tuple(self._found())

    def _found(self) -> Iterator[Slice]:
        try:
            with self._slot.calling("nvmlDeviceGetMigMode"):
                current, _ = self._nvml.nvmlDeviceGetMigMode(self._handle)
                most = self._nvml.nvmlDeviceGetMaxMigDeviceCount(self._handle) if current else 0
        except (Unsupported, Unavailable):
            return
        for index in range(most):
            try:
                with self._slot.calling("nvmlDeviceGetMigDeviceHandleByIndex"):
                    yield self._slice(index)
            except (Unsupported, Unavailable):
                # Places of slices that were deleted stay empty between others.
                continue

    def _slice(self, index: int) -> Slice:
        nvml = self._nvml
        handle = nvml.nvmlDeviceGetMigDeviceHandleByIndex(self._handle, index)
        uuid = nvml.nvmlDeviceGetUUID(handle)
        device = MigDevice(
            uuid.decode() if isinstance(uuid, bytes) else uuid,
            nvml.nvmlDeviceGetGpuInstanceId(handle),
            nvml.nvmlDeviceGetComputeInstanceId(handle),
        )
        return Slice(device, handle)

    def read(self) -> dict[str, dict[str, float]]:
        """Return signal values by the MIG device's UUID; one that is gone is left out."""
        values: dict[str, dict[str, float]] = {}
        for each in self._slices:
            try:
                with self._slot.calling(MEMORY.name):
                    values[each.device.uuid] = MEMORY.make(self._nvml, each.handle)
            except (Unsupported, Unavailable):
                continue
        return values
