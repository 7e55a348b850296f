"""Why an out-of-memory error happened, from the event that tells of it.

A request of s bytes failed with D free on the device, F free in the process's own cache and r that
caches of its neighbours could give back.  F + D >= s: the bytes were there, in pieces.  Else
D + r >= s: the neighbours' caches had them.  Else they were not there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.fragmentation import Attribution, attribute
from gpuward.agent.model import Action

if TYPE_CHECKING:
    from gpuward.agent.model import Event

OOM = "process.memory.oom"
CAUSES = {
    Attribution.FRAGMENTATION: "the memory was free, but in pieces: fragmentation",
    Attribution.NEIGHBOUR: "caches of other processes on the GPU held the memory",
    Attribution.CAPACITY: "the memory was not there: capacity",
}
# A restart helps against pieces; it gives nothing back that is in use or that others hold.
ACTIONS = {
    Attribution.FRAGMENTATION: Action.RESTART_APPLICATION,
    Attribution.NEIGHBOUR: Action.CHECK_APPLICATION,
    Attribution.CAPACITY: Action.SCALE_UP,
}


def verdict(event: Event) -> Attribution | None:
    """Return the cause, ``None`` when the event does not say how much was asked for."""

    def size(name: str) -> int:
        return int(event.values.get(name, 0))

    request = size("requested_bytes")
    if request <= 0:
        return None
    return attribute(
        request=request,
        device_free=size("device_free_bytes"),
        free=size("cache_free_bytes"),
        releasable=size("cache_releasable_bytes"),
        neighbours_releasable=size("neighbours_releasable_bytes"),
    )
