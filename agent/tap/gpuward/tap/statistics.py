"""Take from torch's nested statistics what a record carries, in the order of the file.

The shape is ``torch.cuda.memory_stats_as_nested_dict()``; ``memory_stats()`` flattens and sorts the
same and costs six times as much.  Families and counters that this torch does not have are 0: torch
is feature-detected, its version never compared.  The torch of today has all of them, so that they
are read as if nothing could be missing, and only when something is are they made complete first.
"""

from __future__ import annotations

from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from gpuward.tap.layout import FIGURES, Counters, Totals

if TYPE_CHECKING:
    from collections.abc import Mapping

# Where some of the figures are.
ALLOCATED_BYTES, RESERVED_BYTES, ACTIVE_BYTES, INACTIVE_SPLIT_BYTES = (
    3 * Counters._fields.index(family)
    for family in ("allocated_bytes", "reserved_bytes", "active_bytes", "inactive_split_bytes")
)
_TOTALS = FIGURES - len(Totals._fields)
ALLOCATIONS, ALLOC_RETRIES, OOMS, PRIVATE_POOL_RESERVED_BYTES, LAST_OOM_REQUEST_BYTES = (
    _TOTALS + Totals._fields.index(name)
    for name in (
        *("allocations", "alloc_retries", "ooms"),
        *("private_pool_reserved_bytes", "last_oom_request_bytes"),
    )
)

_POOLS = ("all", "small_pool", "large_pool")
_COUNTERS = (
    *("num_alloc_retries", "num_ooms", "num_sync_all_streams", "num_device_alloc"),
    *("num_device_free",),
)
_families, _pools = itemgetter(*Counters._fields), itemgetter(*_POOLS)
_all, _current, _peak = map(itemgetter, ("all", "current", "peak"))
_counters = itemgetter(*_COUNTERS)
_NOTHING: dict[str, Any] = {}
_ZERO = {"current": 0, "peak": 0, "allocated": 0}


def figures(stats: Mapping[str, Any], last_oom_request_bytes: int) -> list[int]:
    """Return the figures of ``stats``, see ``layout.FIGURES``; torch does not keep the last one."""
    try:
        return _figures(stats, last_oom_request_bytes)
    except KeyError:
        return _figures(_complete(stats), last_oom_request_bytes)


def _figures(stats: Mapping[str, Any], last_oom_request_bytes: int) -> list[int]:
    families = _families(stats)
    found: list[int] = list(map(_current, chain.from_iterable(map(_pools, families))))
    found += map(_peak, map(_all, families))
    allocation, private_pools = stats["allocation"], stats.get("reserved_bytes_by_private_pools")
    found += (
        allocation["large_pool"]["allocated"],
        stats["allocated_bytes"]["large_pool"]["allocated"],
        allocation["all"]["allocated"],
        *_counters(stats),
        stats["oversize_segments"]["current"],
        stats.get("num_oom_rejections", 0),
        _reserved(private_pools) if private_pools else 0,
        last_oom_request_bytes,
    )
    return found


def _reserved(private_pools: Mapping[str, Any]) -> int:
    return sum(p.get("all", _NOTHING).get("current", 0) for p in private_pools.values())


def _complete(stats: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``stats`` with a zero for everything that every torch of today has."""
    families = {
        family: {pool: _ZERO | stats.get(family, _NOTHING).get(pool, _NOTHING) for pool in _POOLS}
        for family in Counters._fields
    }
    oversize = _ZERO | stats.get("oversize_segments", _NOTHING)
    return {**dict.fromkeys(_COUNTERS, 0), **stats, **families, "oversize_segments": oversize}
