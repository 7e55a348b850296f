"""Why an out-of-memory error happened, from the event that tells of it.

A request found no memory, although torch had given back all of its cache that it could.  Would it
have found some, had the process's blocks lain side by side?  Then it was fragmentation, which the
process can mend alone.  Memory moves in whole pages (20 MiB for what is large, with expandable
segments), so what is in use and the request count as the pages that they fill.  Else, would it have
found some, had the neighbours given back their caches?  Else the memory was not there.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from gpuward.agent.model import Action

if TYPE_CHECKING:
    from gpuward.agent.model import Event

OOM = "process.memory.oom"
# ``kLargeBuffer`` of ``c10/core/AllocatorConfig.h``.
PAGE_BYTES = 20 * 2**20


class Attribution(StrEnum):
    """Why a request found no memory, decided by what would have helped."""

    # The bytes were there, in pieces.
    FRAGMENTATION = "fragmentation"
    # Caches of other processes on the GPU held them.
    NEIGHBOUR = "neighbour"
    # They were not there.
    CAPACITY = "capacity"


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
    free = size("cache_free_bytes") + size("device_free_bytes")
    if _in_whole_pages(request, size("reserved_bytes") - size("cache_free_bytes")) <= free:
        return Attribution.FRAGMENTATION
    # Of the own cache nothing more: the failed request has flushed it.  What the counters of a
    # second later call releasable was freed since, or is a guess (expandable segments).
    if size("device_free_bytes") + size("neighbours_releasable_bytes") >= request:
        return Attribution.NEIGHBOUR
    return Attribution.CAPACITY


def _in_whole_pages(request: int, in_use: int) -> int:
    """Return how many bytes more a compacted process needs; ``in_use`` <= 0: not known."""
    if in_use <= 0:
        return request
    return -(-(in_use + request) // PAGE_BYTES) * PAGE_BYTES - in_use
