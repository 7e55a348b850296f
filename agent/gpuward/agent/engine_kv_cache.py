"""Read out of a vLLM page how large its KV cache is and how full.  Pure.

The cache is what a server's memory is for: bytes won or lost become blocks, and blocks requests.
``cache_config_info`` carries the settings as labels, ``"None"`` where one is not set.  Traps:

* A model with several kinds of layers names its smallest block (vllm issue 51163), so blocks times
  their size is not what fits; ``kv_cache_size_tokens`` says it, in releases that have it.
* What a block takes is on no page; it follows only where somebody set ``kv_cache_memory_bytes``.
* One server has a series for each data-parallel rank, of the same size but for the last block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuward.agent.openmetrics import Page

INFO = "vllm:cache_config_info"
# Its name now, and in older releases.
USAGE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
PREFIXES = (INFO, *USAGE)


@dataclass(frozen=True, slots=True)
class KvCache:
    """The KV cache of one rank, the smallest of a server's; ``None`` where the page is silent.

    ``usage_ratio`` is the mean of all ``ranks``, ``bytes`` are those of one GPU.
    """

    blocks: int
    ranks: int = 1
    tokens: int | None = None
    bytes: int | None = None
    usage_ratio: float | None = None
    # ``--gpu-memory-utilization``.
    gpu_memory_utilization: float | None = None


def read(page: Page) -> KvCache | None:
    """Return the cache that a page tells of, ``None`` when it does not say how many blocks."""
    infos = [series.labels for series, _ in page.get(INFO, ())]
    sized = [(blocks, labels) for labels in infos if (blocks := _count(labels, "num_gpu_blocks"))]
    if not sized:
        return None
    blocks, labels = min(sized, key=lambda one: one[0])
    block_tokens = _count(labels, "block_size")
    tokens = _count(labels, "kv_cache_size_tokens")
    return KvCache(
        blocks=blocks,
        ranks=len(sized),
        tokens=tokens or (blocks * block_tokens if block_tokens else None),
        bytes=_count(labels, "kv_cache_memory_bytes"),
        usage_ratio=_usage(page),
        gpu_memory_utilization=_ratio(labels.get("gpu_memory_utilization", "")),
    )


def _usage(page: Page) -> float | None:
    for name in USAGE:
        shares = [value for _, value in page.get(name, ()) if 0 <= value <= 1]
        if shares:
            return sum(shares) / len(shares)
    return None


def _count(labels: dict[str, str], name: str) -> int | None:
    text = labels.get(name, "")
    # Fifteen digits are a petabyte: more is no figure of a GPU.
    return int(text) or None if text.isascii() and text.isdecimal() and len(text) < 16 else None  # noqa: PLR2004


def _ratio(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value <= 1 else None
