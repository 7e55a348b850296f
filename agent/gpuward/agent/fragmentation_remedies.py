"""What would help a process that runs short of memory, and what each remedy wins in bytes.

None is advised that would win nothing: a restart gives back what is stranded, not what is in use;
emptying the cache gives back what is releasable, and stalls the device for it.  Expandable segments
kill most stranding (cosmos-rl: 127 to 97 GB reserved), but together with ``max_split_size_mb`` they
grow without bound (pytorch issue 193400).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.fragmentation_cache import GIB, LIMITS, MIB
from gpuward.agent.model import Action, Evidence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.fragmentation_cache import Cache

VLLM = "vllm"
# What is won back below this is not worth the stall.
WORTH_A_FLUSH_BYTES = 256 * MIB


def action(cache: Cache) -> Action:
    """Return the least harmful thing: a restart only where enough is stranded for it to win."""
    return Action.RESTART_APPLICATION if cache.is_notable() else Action.CHECK_APPLICATION


def remedies(cache: Cache) -> Iterator[Evidence]:
    """Yield what would win memory back, most first."""
    if cache.is_notable():
        yield _remedy("restart", cache.stranded, "A rolling restart wins back what is stranded")
        if not cache.expandable:
            yield _remedy(
                "expandable_segments",
                cache.stranded,
                "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, without max_split_size_mb,"
                " avoids most of it after the next start: up to",
            )
            yield _remedy(
                "max_split_size",
                cache.stranded,
                "Where expandable segments cannot be used, max_split_size_mb keeps large blocks"
                " whole: up to",
            )
    if cache.releasable >= WORTH_A_FLUSH_BYTES:
        yield _remedy(
            "empty_cache",
            cache.releasable,
            "torch.cuda.empty_cache() gives back to other processes, with a stall,",
        )


def utilization_change(cache: Cache, total_bytes: float | None, engine: str) -> Iterator[Evidence]:
    """Yield how much vLLM's ``gpu_memory_utilization`` has to fall for safe headroom."""
    if engine != VLLM or not total_bytes or cache.headroom is None or cache.mean_request is None:
        return
    missing = LIMITS.headroom_warn_ratio * cache.mean_request - cache.headroom
    if missing <= 0:
        return
    # The engine takes two digits.
    ratio = (int(100 * missing / total_bytes) + 1) / 100
    yield Evidence(
        "gpu_memory_utilization_change",
        -ratio,
        "ratio",
        text=f"With --gpu-memory-utilization lower by {ratio:.2f} there is room for "
        f"{LIMITS.headroom_warn_ratio:.0f} large requests; the KV cache loses "
        f"{ratio * total_bytes / GIB:.1f} GiB.",
        source="tap",
    )


def _remedy(name: str, wins: float, words: str) -> Evidence:
    text = f"{words} {wins / GIB:.2f} GiB."
    return Evidence(f"remedy_{name}_bytes", wins, "bytes", text=text, source="tap")
