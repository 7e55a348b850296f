"""Read out of a vLLM page how large its KV cache is and how full.  Pure.

The cache is what a server's memory is for: bytes won or lost become blocks, and blocks requests.
``cache_config_info`` carries the settings as labels, ``"None"`` where one is not set.  Traps:

* A model with several kinds of layers names its smallest block (vllm issue 51163), so blocks times
  their size is not what fits; ``kv_cache_size_tokens`` says it, in releases that have it.
* What a block takes is on no page; it follows only where somebody set ``kv_cache_memory_bytes``.
* One server has a series for each data-parallel rank, of the same size but for the last block.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# The name of what is used now, and in older releases.
_DATA_PARALLEL = re.compile(r"(?:^|_)DP(\d+)(?:_|$)")
USAGE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")


@dataclass(frozen=True, slots=True)
class KvCache:
    """The KV cache of one rank, the smallest of a server's; ``None`` where the page is silent.

    ``usage_ratio`` is the mean of all ``ranks``, ``used_ratios`` are theirs by the engine's number
    of each; ``bytes`` are those of one GPU.
    """

    blocks: int
    ranks: int = 1
    tokens: int | None = None
    bytes: int | None = None
    usage_ratio: float | None = None
    # ``--gpu-memory-utilization``.
    gpu_memory_utilization: float | None = None
    used_ratios: Mapping[str, float] = field(default_factory=dict)

    def used_by(self, rank: str) -> float | None:
        """Return what a process of ``rank`` (DP1_TP0) uses; where that is not known, the most."""
        number = _DATA_PARALLEL.search(rank)
        own = self.used_ratios.get(number[1]) if number else None
        return max(self.used_ratios.values(), default=self.usage_ratio) if own is None else own


def read(infos: Iterable[Mapping[str, str]], usages: Iterable[tuple[str, float]]) -> KvCache | None:
    """Return the cache, ``None`` when nothing says how many blocks.

    ``infos``: the labels of each series of the info metric; ``usages``: what is used, by
    the number of a rank.
    """
    sized = [(blocks, labels) for labels in infos if (blocks := _count(labels, "num_gpu_blocks"))]
    if not sized:
        return None
    blocks, labels = min(sized, key=lambda one: one[0])
    block_tokens = _count(labels, "block_size")
    tokens = _count(labels, "kv_cache_size_tokens")
    used = {rank: value for rank, value in usages if 0 <= value <= 1}
    shares = used.values()
    return KvCache(
        blocks=blocks,
        ranks=len(sized),
        tokens=tokens or (blocks * block_tokens if block_tokens else None),
        bytes=_count(labels, "kv_cache_memory_bytes"),
        usage_ratio=sum(shares) / len(shares) if shares else None,
        gpu_memory_utilization=_ratio(labels.get("gpu_memory_utilization", "")),
        used_ratios=used,
    )


def _count(labels: Mapping[str, str], name: str) -> int | None:
    text = labels.get(name, "")
    # Fifteen digits are a petabyte: more is no figure of a GPU.
    return int(text) or None if text.isascii() and text.isdecimal() and len(text) < 16 else None  # noqa: PLR2004


def _ratio(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value <= 1 else None
