"""Name the GPU that a process means by the 16 bytes of a UUID.  Pure.

CUDA shows a process its slice of a GPU (MIG) as a GPU of its own, with the slice's UUID; everything
else on the node goes by the card.  So a record is booked on the card, and the memory that is left
is asked of the slice: the slices of a card share none.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpuward.agent.model import Gpu


def gpu_name(gpu_uuid: bytes) -> str:
    """Return the name of a card as the driver writes it; ``gpu_uuid`` has 16 bytes."""
    return f"GPU-{uuid.UUID(bytes=gpu_uuid)}"


# Writers are not trusted: a node does not have as many.
MAX_KNOWN = 1_024


@dataclass(frozen=True, slots=True)
class DeviceName:
    """``gpu`` is the card's UUID, ``device`` the slice's, the same where there are no slices."""

    gpu: str
    device: str


class GpuNames:
    """Knows the cards and slices of ``gpus``; an unknown UUID is that of a card."""

    def __init__(self, gpus: Iterable[Gpu] = ()) -> None:
        self.gpus = tuple(gpus)
        self._card_of = {mig.uuid: gpu.uuid for gpu in self.gpus for mig in gpu.mig}
        # A record is named several times a second.
        self._known: dict[bytes, DeviceName] = {}

    def __call__(self, gpu_uuid: bytes) -> DeviceName:
        """Return the names of ``gpu_uuid``, which has 16 bytes, as the driver writes them."""
        known = self._known.get(gpu_uuid)
        if known is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            known = self._known[gpu_uuid] = self._look_up(gpu_uuid)
        return known

    def _look_up(self, gpu_uuid: bytes) -> DeviceName:
        name = gpu_name(gpu_uuid)
        slice_name = f"MIG-{name.removeprefix('GPU-')}"
        card = self._card_of.get(slice_name)
        return DeviceName(card, slice_name) if card else DeviceName(name, name)
