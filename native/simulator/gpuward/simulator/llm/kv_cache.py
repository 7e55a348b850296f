"""The KV cache: blocks that sequences hold, and the beginnings of talks that it still remembers.

Blocks that nobody holds keep what they held until somebody needs them, oldest first, as vLLM's
prefix cache does; so the cache is as large as what is free.
"""

from __future__ import annotations

from collections import OrderedDict

from gpuward.simulator.llm.platforms import BLOCK_TOKENS


class KvCache:
    """``total`` blocks; the caller never takes more than ``free`` of them."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._remembered: OrderedDict[int, int] = OrderedDict()
        self._remembered_blocks = 0

    @property
    def free(self) -> int:
        return self.total - self.used

    @property
    def usage(self) -> float:
        """Share of the blocks that sequences hold, at most 1."""
        return min(1.0, self.used / self.total)

    def take(self, blocks: int) -> None:
        self.used += blocks
        if self._remembered_blocks > self.total - self.used:
            self._forget()

    def recall(self, talk: int) -> None:
        """Let the blocks of ``talk`` be those that its next request takes."""
        self._remembered_blocks -= self._remembered.pop(talk, 0)

    def give_back(self, blocks: int, talk: int) -> None:
        """Free ``blocks``, and remember them as the beginning of ``talk``."""
        self.used -= blocks
        self._remembered_blocks += blocks - self._remembered.pop(talk, 0)
        self._remembered[talk] = blocks
        self._forget()

    def remembered_tokens(self, talk: int) -> int:
        """Return how many tokens of ``talk`` are still in the cache."""
        return self._remembered.get(talk, 0) * BLOCK_TOKENS

    def resize(self, total: int) -> None:
        """Have ``total`` blocks from now on, be they fewer than are in use."""
        self.total = total
        self._forget()

    def _forget(self) -> None:
        while self._remembered and self._remembered_blocks > max(0, self.total - self.used):
            _, blocks = self._remembered.popitem(last=False)
            self._remembered_blocks -= blocks


def blocks_of(tokens: int) -> int:
    """Return how many blocks ``tokens`` fill or begin."""
    return -(-tokens // BLOCK_TOKENS)
