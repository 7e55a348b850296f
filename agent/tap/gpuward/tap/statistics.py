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

_U64 = (1 << 64) - 1
_NOTHING: Mapping[str, Any] = {}


class Figures(NamedTuple):
    """Current values of each pool, and the peaks over both."""

    all_pools: Counters
    small_pool: Counters
    large_pool: Counters
    peak: Counters


def counters(stats: Mapping[str, Any]) -> Figures:
    """Return the nine families of ``stats``; a value below 0 counts as 0."""
    everything, small, large, peak = [], [], [], []
    for family in Counters._fields:
        pools = stats.get(family, _NOTHING)
        both = pools.get("all", _NOTHING)
        everything.append(_value(both, "current"))
        peak.append(_value(both, "peak"))
        small.append(_value(pools.get("small_pool", _NOTHING), "current"))
        large.append(_value(pools.get("large_pool", _NOTHING), "current"))
    return Figures(
        Counters._make(everything),
        Counters._make(small),
        Counters._make(large),
        Counters._make(peak),
    )


def totals(stats: Mapping[str, Any]) -> Totals:
    """Return the cumulative counters of ``stats``; the last OOM's size is the publisher's."""
    allocation = stats.get("allocation", _NOTHING)
    allocated_bytes = stats.get("allocated_bytes", _NOTHING)
    return Totals(
        _value(allocation.get("large_pool", _NOTHING), "allocated"),
        _value(allocated_bytes.get("large_pool", _NOTHING), "allocated"),
        _value(allocation.get("all", _NOTHING), "allocated"),
        _value(stats, "num_alloc_retries"),
        _value(stats, "num_ooms"),
        _value(stats, "num_sync_all_streams"),
        _value(stats, "num_device_alloc"),
        _value(stats, "num_device_free"),
        _value(stats.get("oversize_segments", _NOTHING), "current"),
        _value(stats, "num_oom_rejections"),
        _private_pool_reserved(stats.get("reserved_bytes_by_private_pools", _NOTHING)),
    )


def _private_pool_reserved(pools: Mapping[Any, Any]) -> int:
    return sum(_value(pool.get("all", _NOTHING), "current") for pool in pools.values())


def _value(figures: Mapping[str, Any], name: str) -> int:
    value = figures.get(name, 0)
    return value if 0 <= value <= _U64 else 0
