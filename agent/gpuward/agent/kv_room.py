"""What bytes of GPU memory are worth to a service: blocks of its KV cache, and so requests.  Pure.

No page tells what a block takes, unless somebody set the cache's size in bytes.  But the cache is
part of what the process has in use, so a block takes at most that much by the number of blocks: of
bytes that are won, this says how many blocks they are at least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.fragmentation_cache import latest
from gpuward.agent.model import SeriesKey

if TYPE_CHECKING:
    from gpuward.agent.model import Subject
    from gpuward.agent.window import Window

ACTIVE = "process_memory_active_bytes"
BLOCKS = "process_kv_cache_blocks"
TOKENS = "process_kv_cache_tokens"
BYTES = "process_kv_cache_bytes"
USAGE = "process_kv_cache_usage_ratio"
REQUEST_BLOCKS = "process_kv_cache_request_blocks"


@dataclass(frozen=True, slots=True)
class KvRoom:
    """A KV cache of ``blocks``, each of which takes ``block_bytes``, or less if not ``is_exact``.

    ``None`` where nobody says: tokens of a block, share in use, blocks of a running request.
    """

    blocks: float
    block_bytes: float
    is_exact: bool
    block_tokens: float | None = None
    usage_ratio: float | None = None
    request_blocks: float | None = None

    def worth(self, size: float) -> str:
        """Say how many blocks ``size`` bytes are, and what they hold."""
        blocks = int(size / self.block_bytes)
        words = f"{'' if self.is_exact else 'at least '}{blocks:,} KV blocks"
        if self.block_tokens is not None:
            words += f", {blocks * self.block_tokens:,.0f} tokens"
        if self.request_blocks:
            words += f", {blocks / self.request_blocks:.1f} requests like those that run now"
        return words

    def still_fits(self, lost: float) -> bool | None:
        """Say whether what is in use fits without ``lost`` bytes; ``None`` when nobody knows."""
        if self.usage_ratio is None or not self.is_exact:
            return None
        return self.blocks - lost / self.block_bytes >= self.usage_ratio * self.blocks


def kv_room(window: Window, subject: Subject) -> KvRoom | None:
    """Return the cache of the subject's process, ``None`` where no engine's page tells of it."""
    about = SeriesKey("", gpu=subject.gpu, process=subject.process)
    blocks = latest(window, about, BLOCKS)
    size = latest(window, about, BYTES)
    at_most = size or latest(window, about, ACTIVE)
    if not blocks or not at_most:
        return None
    tokens = latest(window, about, TOKENS)
    return KvRoom(
        blocks=blocks,
        block_bytes=at_most / blocks,
        is_exact=bool(size),
        block_tokens=tokens / blocks if tokens else None,
        usage_ratio=latest(window, about, USAGE),
        request_blocks=latest(window, about, REQUEST_BLOCKS),
    )
