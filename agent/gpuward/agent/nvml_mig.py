"""The MIG devices of a GPU: who they are, and how full and busy each is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpuward.agent.mig_device import MigDevice
from gpuward.agent.nvml_call import Call, Lane, member
from gpuward.agent.nvml_calls import MEMORY_V2
from gpuward.agent.nvml_conditions import Unavailable, Unsupported
from gpuward.agent.nvml_gpm import MIG_SIGNALS, Gpm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.nvml_device import Slot

MEMORY = Call(
    "nvmlDeviceGetMemoryInfo",
    Lane.FAST,
    {
        "gpu_mig_memory_total_bytes": member("total"),
        "gpu_mig_memory_used_bytes": member("used"),
        "gpu_mig_memory_free_bytes": member("free"),
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
        # By GPU instance; none where the GPU, or its driver, cannot measure them.
        self._activity: dict[int, Gpm] = {}
        self._may_have_gpm = True

    @property
    def devices(self) -> tuple[MigDevice, ...]:
        return tuple(each.device for each in self._slices)

    def find(self) -> None:
        """Look again: somebody may have cut the GPU anew."""
        self._slices = tuple(self._found())
        for instance in self._activity.keys() - {d.gpu_instance for d in self.devices}:
            self._activity.pop(instance).close()

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
        """Return signal values by the MIG device's UUID; one that is gone is left out.

        Activity is that of its GPU instance, which compute instances share.
        """
        values: dict[str, dict[str, float]] = {}
        activity = {it: self._read_activity(it) for it in {d.gpu_instance for d in self.devices}}
        for each in self._slices:
            try:
                with self._slot.calling(MEMORY.name):
                    values[each.device.uuid] = MEMORY.make(self._nvml, each.handle)
            except (Unsupported, Unavailable):
                continue
            values[each.device.uuid] |= activity[each.device.gpu_instance]
        return values

    def _read_activity(self, instance: int) -> dict[str, float]:
        if not self._may_have_gpm:
            return {}
        try:
            with self._slot.calling("nvmlGpmMigSampleGet"):
                gpm = self._activity.get(instance)
                if gpm is None:
                    gpm = self._activity[instance] = Gpm(self._nvml, self._handle, instance)
                measured = gpm.read()
        except Unsupported:
            self.close()
            self._may_have_gpm = False
            return {}
        except Unavailable:
            return {}
        return {MIG_SIGNALS[name]: value for name, value in measured.items() if name in MIG_SIGNALS}

    def close(self) -> None:
        """Give back what the driver holds for us."""
        while self._activity:
            self._activity.popitem()[1].close()
