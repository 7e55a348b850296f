"""Fit the headroom limits (warn 24, critical 8) to recorded traces, of real cards or the replica.

    python tests/bench/prediction_refit.py TRACE.json ...
    python tests/bench/prediction_refit.py --replica TRACE.json    writes traces of the replica

A file holds a list of traces, one of each process, with one sample a second, oldest first; totals
count from the start of the process, and ``expandable`` is whether it has expandable segments:

    [{"name": "vllm, H100", "expandable": false, "samples": [
        {"reserved_bytes": 0, "active_bytes": 0, "inactive_split_bytes": 0, "device_free_bytes": 0,
         "large_allocations": 0, "large_allocated_bytes": 0, "alloc_retries": 0, "ooms": 0}]}]

Printed are, for an error and for a flush of the cache within ten seconds, the AUC, the share found
and the false alarms below each limit, and the limits that this data asks for: warn where nine of
ten errors are found, critical where three in a hundred good seconds are called bad.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prediction_auc import CONFIGS, MEAN_STEPS, NO_REQUEST_RATIO, STEPS, auc, labels, shares
from prediction_seen import published
from prediction_workloads import GIB, WORKLOADS, Workload

from gpuward.agent.fragmentation import AllocatorState, LargeRequests, headroom_safe
from gpuward.simulator.allocator import CachingAllocator
from gpuward.simulator.allocator_config import AllocatorConfig
from gpuward.simulator.allocator_device import FixedDevice

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LIMITS = (4, 6, 8, 10, 12, 16, 20, 24, 28, 32, 40, 48)
FOUND_BY_WARNING = 0.9
FALSE_OF_CRITICAL = 0.03
FIELDS = (
    "reserved_bytes",
    "active_bytes",
    "inactive_split_bytes",
    "device_free_bytes",
    "large_allocations",
    "large_allocated_bytes",
    "alloc_retries",
    "ooms",
)


def ratios(trace: dict[str, Any]) -> list[float]:
    """Return the headroom of each sample in mean large requests, as the agent counts it."""
    large = LargeRequests()
    found = []
    for step, sample in enumerate(trace["samples"]):
        large.add(step, sample["large_allocations"], sample["large_allocated_bytes"])
        large.forget_before(step + 1 - MEAN_STEPS)
        state = AllocatorState(
            sample["reserved_bytes"],
            sample["active_bytes"],
            sample["inactive_split_bytes"],
            bool(trace.get("expandable")),
        )
        mean = large.mean
        headroom = headroom_safe(state, sample["device_free_bytes"])
        found.append(headroom / mean if mean else NO_REQUEST_RATIO)
    return found


def read(path: Path) -> list[dict[str, Any]]:
    """Return the traces of a file; raises ``ValueError`` naming the place and what is missing."""
    try:
        traces = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: no JSON: {error}") from error
    if not isinstance(traces, list) or not traces:
        raise ValueError(f"{path}: want a list of traces")
    for at, trace in enumerate(traces):
        for second, sample in enumerate(trace.get("samples", ())):
            missing = [name for name in FIELDS if name not in sample]
            if missing:
                raise ValueError(f"{path}: trace {at}, sample {second}: no {', '.join(missing)}")
        if not trace.get("samples"):
            raise ValueError(f"{path}: trace {at} has no samples")
    return traces


def fit(traces: Sequence[dict[str, Any]], event: str) -> Iterator[str]:
    """Yield the lines of the report for one kind of ``event``."""
    scores: list[float] = []
    bad: list[bool] = []
    for trace in traces:
        scores += ratios(trace)
        bad += labels([sample[event] for sample in trace["samples"]])
    area = auc(scores, bad)
    yield f"{event}: {len(bad):,} samples, {sum(bad):,} of them before one, AUC {area:.3f}"
    if not any(bad) or all(bad):
        yield "  nothing can be fitted: both kinds of samples are needed"
        return
    points = {limit: shares(scores, bad, limit) for limit in LIMITS}
    for limit, (found, false) in points.items():
        yield f"  below {limit:2}: found {100 * found:5.1f} %, false alarm {100 * false:5.1f} %"
    warn = next((limit for limit, (found, _) in points.items() if found >= FOUND_BY_WARNING), None)
    critical = [limit for limit, (_, false) in points.items() if false <= FALSE_OF_CRITICAL]
    yield f"  this data asks for: warn below {warn}, critical below {max(critical, default=None)}"


def replica() -> Iterator[dict[str, Any]]:
    """Yield traces of the replica, in the format of a recording."""
    import random

    for workload, config, gib in product(WORKLOADS, CONFIGS, (7, 9)):
        device, options = FixedDevice(gib * GIB), AllocatorConfig.parse(config)
        allocator = CachingAllocator(device, options)
        chance = random.Random(f"refit/{workload}/{config}/{gib}")
        work = Workload(allocator, chance, load=chance.uniform(0.3, 1.6))
        seen = []
        for second in range(STEPS):
            WORKLOADS[workload](work)
            record = published(allocator, float(second)).record
            now, totals = record.all_pools, record.totals
            values = (now.reserved_bytes, now.active_bytes, now.inactive_split_bytes)
            counts = (totals.large_allocations, totals.large_allocated_bytes)
            events = (totals.alloc_retries, totals.ooms)
            seen.append(
                dict(zip(FIELDS, (*values, device.free_bytes, *counts, *events), strict=True))
            )
        yield {
            "name": f"replica, {workload}, {config or 'default'}, {gib} GiB",
            "expandable": options.expandable_segments,
            "samples": seen,
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("traces", nargs="*", type=Path, metavar="TRACE.json")
    parser.add_argument("--replica", type=Path, metavar="FILE", help="write traces of the replica")
    options = parser.parse_args()
    if options.replica is not None:
        options.replica.write_text(json.dumps(list(replica())), encoding="utf-8")
        return 0
    if not options.traces:
        parser.error("name at least one file of traces, or --replica FILE to make one")
    try:
        traces = [trace for path in options.traces for trace in read(path)]
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    for event in ("ooms", "alloc_retries"):
        print("\n".join(fit(traces, event)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
