"""The causes that nodes tell, and what each is to a whole service.

Names are those of the agents' verdicts.  One that a newer agent tells and that is not listed is
taken for a trouble of its node: that blames least.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Nature(StrEnum):
    """What a cause belongs to, and therefore what the other replicas should show."""

    # A node, a GPU or a process: others are well, or sick by themselves.
    PLACE = "place"
    # The traffic of the service: others show the same.
    LOAD = "load"
    # What it waits for: others that wait for the same show the same.
    OUTSIDE = "outside"
    # Somebody's doing: those that began anew show it.
    CHANGE = "change"
    # The agent cannot see: it says nothing about users.
    SIGHT = "sight"


@dataclass(frozen=True, slots=True)
class Cause:
    """``words``: after "because of"; ``by_change``: a new version or configuration can make it."""

    words: str
    nature: Nature
    by_change: bool = False
    # Causes that may follow from it.
    explains: frozenset[str] = frozenset()


_PLACE, _LOAD, _SIGHT = Nature.PLACE, Nature.LOAD, Nature.SIGHT
# What comes to the others when a replica gives way.
_MOVED = frozenset({"overload", "kv_exhaustion"})
# A request that waits for an upstream keeps its place.
_HELD = frozenset({"overload"})

CHANGE = "change"
UNEVEN_LOAD = "uneven_load"
UPSTREAM = "upstream"

CAUSES: dict[str, Cause] = {
    "driver_hang": Cause("a driver that hangs", _PLACE, explains=_MOVED),
    "gpu_lost": Cause("a lost GPU", _PLACE, explains=_MOVED),
    "gpu_fault": Cause("a faulty GPU", _PLACE, explains=_MOVED),
    "thermal": Cause("a GPU that heat slows down", _PLACE, explains=_MOVED),
    "power_cap": Cause("a GPU that power holds down", _PLACE, explains=_MOVED),
    "ecc_degraded": Cause("GPU memory that gives way", _PLACE, explains=_MOVED),
    "corrupt_results": Cause("answers unlike its siblings'", _PLACE, by_change=True),
    "pcie_downgrade": Cause("a degraded PCIe link", _PLACE, explains=_MOVED),
    "gpu_slow": Cause("a slow GPU", _PLACE, by_change=True, explains=_MOVED),
    "fragmentation": Cause("fragmented memory", _PLACE, by_change=True, explains=_MOVED),
    "noisy_neighbour_memory": Cause("another process that took memory", _PLACE, explains=_MOVED),
    "noisy_neighbour_compute": Cause("another process on the GPU", _PLACE, explains=_MOVED),
    "host_cpu": Cause("too few cores for its threads", _PLACE, by_change=True, explains=_MOVED),
    UPSTREAM: Cause("an upstream in trouble", Nature.OUTSIDE, explains=_HELD),
    # Callers change prompts, not a new version of the engine.
    "input_anomaly": Cause("larger requests", _LOAD, explains=_MOVED),
    "overload": Cause("overload", _LOAD, by_change=True, explains=frozenset({"kv_exhaustion"})),
    "kv_exhaustion": Cause("a full KV cache", _LOAD, by_change=True),
    "restart": Cause("a restart", Nature.CHANGE),
    "telemetry_gap": Cause("a metrics page that cannot be read", _SIGHT),
    "partition": Cause("a partition", _SIGHT),
    "clock_skew": Cause("a clock that was set", _SIGHT),
    # Only the centre can see these.
    CHANGE: Cause("a change", Nature.CHANGE),
    UNEVEN_LOAD: Cause("unevenly spread requests", _LOAD, by_change=True),
}


def cause_of(name: str) -> Cause:
    """Return what is known of the cause ``name``."""
    return CAUSES.get(name, Cause(name.replace("_", " "), Nature.PLACE))
