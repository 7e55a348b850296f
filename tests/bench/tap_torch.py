"""What the tap costs an inference process, beside real torch on the simulated CUDA runtime.

torch's own allocator and its own bindings run; only the device behind them is simulated, so that
what a tick, a walk and a summary cost is what they cost on a node.  Walks are taken of a process
with every other block free, without expandable segments and, where the tap walks by itself, with.
"""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING

from figures import Figure, of_runs
from tap_torch_node import torch_node

from gpuward.tap.walk_budget import WalkBudget

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tap_torch_node import TorchNode
    from timing import Effort

BOOT_MS = 1.0
TICK_US = {
    "tick": ("tap tick on torch, CPU", 25.0),
    "torch's statistics": ("of it torch's statistics", None),
    "extract": ("of it extract", 4.0),
    "pack, crc, pwrite": ("of it pack, crc, pwrite", 4.0),
    "crc32": ("of it crc32", 1.0),
}
FILE_KIB = 128.0
MEMORY_MIB = 1.0
WALK_MS = 6.0
SUMMARY_MS = {1_000: 0.13, 10_000: 1.6, 100_000: 25.0}
LARGEST_WALK = 10_000
DUTY_PERCENT = 0.05
EXPANDABLE = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}


def measure(effort: Effort) -> Iterator[Figure]:
    with torch_node() as node:
        yield from _starts(node, effort)
        share = 0.1 if effort.quick else 1.0
        costs = node.run("tap_torch_costs.py", node.folder, share)
        for name, (row, budget) in TICK_US.items():
            yield of_runs(row, [1e6 * seconds for seconds in costs[name]], "us", budget=budget)
        yield from _walks(costs, "")
        yield _duty(costs[f"walk {LARGEST_WALK}"])
        costs = node.run("tap_torch_costs.py", node.folder, share, **EXPANDABLE)
        yield from _walks(costs, ", expandable")


def _starts(node: TorchNode, effort: Effort) -> Iterator[Figure]:
    # One after the other: processes that import torch at once slow one another down.
    boots = [_answers(node, "boot", [number])[0] for number in range(2 if effort.quick else 5)]
    boots_ms = [1e3 * boot["boot"] for boot in boots]
    yield of_runs("tap entry point, CPU", boots_ms, "ms", budget=BOOT_MS)
    made = [boot["threads and files"] for boot in boots]
    yield of_runs("threads and files it made", made, "", budget=0.0)
    runs = _answers(node, "run", range(2 if effort.quick else 3))
    files_kib = [run["file"] / 1024 for run in runs]
    yield of_runs("tap file, 8 GPUs", files_kib, "KiB", budget=FILE_KIB)
    memory_mib = [run["memory"] / 2**20 for run in runs]
    yield of_runs("tap's memory, RSS", memory_mib, "MiB", budget=MEMORY_MIB)


def _answers(node: TorchNode, kind: str, numbers: Sequence[int]) -> list[dict[str, float]]:
    """Return what processes of ``kind`` say, one a number, which run at once."""
    processes = []
    for number in numbers:
        directory = node.folder / f"{kind}-{number}"
        directory.mkdir()
        processes.append(node.start("tap_torch_start.py", directory, kind))
    return [json.loads(process.communicate()[0]) for process in processes]


def _walks(costs: Mapping[str, list[float]], how: str) -> Iterator[Figure]:
    for blocks, budget in SUMMARY_MS.items():
        is_allowed = bool(costs[f"allowed {blocks}"][0])
        if is_allowed != (blocks <= LARGEST_WALK):
            raise RuntimeError(f"a walk over {blocks} blocks{how} is allowed: {is_allowed}")
        walks_ms = [1e3 * seconds for seconds in costs[f"walk {blocks}"]]
        name = f"walk over {blocks:,} blocks{how}, CPU"
        # One that the tap refuses to take is told only.
        yield of_runs(
            name,
            walks_ms,
            "ms",
            budget=WALK_MS if is_allowed else None,
            ratio=f"{costs[f'predicted {blocks}'][0]:,} blocks predicted",
        )
        summaries_ms = [1e3 * seconds for seconds in costs[f"summary {blocks}"]]
        yield of_runs("its summary, CPU", summaries_ms, "ms", budget=budget)


def _duty(walks_s: list[float]) -> Figure:
    """Return the share of time that walks of this cost may take, at the most frequent."""
    cost_ns = int(1e9 * statistics.median(walks_s))
    budget = WalkBudget()
    budget.spend(0, cost_ns)
    wait_ns = 1_000_000 * budget.retry_after_ms(0)
    share = 100 * cost_ns / (wait_ns + cost_ns)
    return Figure("largest walks, as often as allowed", share, "%", budget=DUTY_PERCENT)
