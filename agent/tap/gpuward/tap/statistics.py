"""Take from torch's nested statistics what a record carries.

The shape is ``torch.cuda.memory_stats_as_nested_dict()``; ``memory_stats()`` flattens and sorts the
same and costs six times as much.  Families and counters that this torch does not have are 0: torch
is feature-detected, its version never compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gpuward.tap.layout import Counters, Totals

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOTHING: dict[str, Any] = {}
_ABSENT = dict.fromkeys(("all", "small_pool", "large_pool"), _NOTHING)


class Figures(NamedTuple):
    """Current values of each pool, and the peaks over both."""

    all_pools: Counters = Counters()
    small_pool: Counters = Counters()
    large_pool: Counters = Counters()
    peak: Counters = Counters()


def figures(stats: Mapping[str, Any]) -> Figures:
    """Return the nine families of ``stats``."""
    families = [stats.get(family, _ABSENT) for family in Counters._fields]
    both = [pools.get("all", _NOTHING) for pools in families]
    return Figures(
        Counters._make([pool.get("current", 0) for pool in both]),
        Counters._make([p.get("small_pool", _NOTHING).get("current", 0) for p in families]),
        Counters._make([p.get("large_pool", _NOTHING).get("current", 0) for p in families]),
        Counters._make([pool.get("peak", 0) for pool in both]),
    )


def totals(stats: Mapping[str, Any]) -> Totals:
    """Return the cumulative counters of ``stats``; the last OOM's size is the publisher's."""
    get = stats.get
    allocation = get("allocation", _ABSENT)
    large_bytes = get("allocated_bytes", _ABSENT).get("large_pool", _NOTHING)
    private_pools = get("reserved_bytes_by_private_pools", _NOTHING)
    return Totals(
        allocation.get("large_pool", _NOTHING).get("allocated", 0),
        large_bytes.get("allocated", 0),
        allocation.get("all", _NOTHING).get("allocated", 0),
        get("num_alloc_retries", 0),
        get("num_ooms", 0),
        get("num_sync_all_streams", 0),
        get("num_device_alloc", 0),
        get("num_device_free", 0),
        get("oversize_segments", _NOTHING).get("current", 0),
        get("num_oom_rejections", 0),
        sum(p.get("all", _NOTHING).get("current", 0) for p in private_pools.values()),
    )
