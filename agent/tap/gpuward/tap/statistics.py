"""Take from torch's nested statistics what a record carries.

The shape is ``torch.cuda.memory_stats_as_nested_dict()``; ``memory_stats()`` flattens and sorts the
same and costs six times as much.  Families and counters that this torch does not have are 0: torch
is feature-detected, its version never compared.  The torch of today has all of them, so that they
are read as if nothing could be missing, and only when something is are they made complete first.
"""

from __future__ import annotations

from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from gpuward.tap.layout import Counters, Totals

if TYPE_CHECKING:
    from collections.abc import Mapping

_POOLS = ("all", "small_pool", "large_pool")
_COUNTERS = (
    *("num_alloc_retries", "num_ooms", "num_sync_all_streams", "num_device_alloc"),
    *("num_device_free",),
)
_families, _counters = itemgetter(*Counters._fields), itemgetter(*_COUNTERS)
_all, _small, _large = map(itemgetter, _POOLS)
_current, _peak = itemgetter("current"), itemgetter("peak")
# Counters of nine figures; ``_make`` counts them too, and takes half as long again.
_nine = partial(tuple.__new__, Counters)
_NOTHING: dict[str, Any] = {}
_ZERO = {"current": 0, "peak": 0, "allocated": 0}


class Figures(NamedTuple):
    """Current values of each pool, and the peaks over both."""

    all_pools: Counters = Counters()
    small_pool: Counters = Counters()
    large_pool: Counters = Counters()
    peak: Counters = Counters()


def figures(stats: Mapping[str, Any]) -> Figures:
    """Return the nine families of ``stats``."""
    try:
        return _figures(stats)
    except KeyError:
        return _figures(_complete(stats))


def totals(stats: Mapping[str, Any]) -> Totals:
    """Return the cumulative counters of ``stats``; the last OOM's size is the publisher's."""
    try:
        return _totals(stats)
    except KeyError:
        return _totals(_complete(stats))


def _figures(stats: Mapping[str, Any]) -> Figures:
    families = _families(stats)
    both = tuple(map(_all, families))
    return Figures(
        _nine(map(_current, both)),
        _nine(map(_current, map(_small, families))),
        _nine(map(_current, map(_large, families))),
        _nine(map(_peak, both)),
    )


def _totals(stats: Mapping[str, Any]) -> Totals:
    allocation = stats["allocation"]
    retries, ooms, syncs, device_allocs, device_frees = _counters(stats)
    private_pools = stats.get("reserved_bytes_by_private_pools", _NOTHING)
    private = [pools.get("all", _NOTHING).get("current", 0) for pools in private_pools.values()]
    return Totals(
        allocation["large_pool"]["allocated"],
        stats["allocated_bytes"]["large_pool"]["allocated"],
        allocation["all"]["allocated"],
        *(retries, ooms, syncs, device_allocs, device_frees),
        stats["oversize_segments"]["current"],
        stats.get("num_oom_rejections", 0),
        sum(private),
    )


def _complete(stats: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``stats`` with a zero for everything that every torch of today has."""
    families = {
        family: {pool: _ZERO | stats.get(family, _NOTHING).get(pool, _NOTHING) for pool in _POOLS}
        for family in Counters._fields
    }
    oversize = _ZERO | stats.get("oversize_segments", _NOTHING)
    return {**dict.fromkeys(_COUNTERS, 0), **stats, **families, "oversize_segments": oversize}
