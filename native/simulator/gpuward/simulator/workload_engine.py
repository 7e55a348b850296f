"""An inference engine reduced to what fragments memory: buffers of many sizes and lifetimes.

A request takes a prefill buffer in proportion to its prompt, KV blocks that grow with its tokens,
and may name an adapter, which is loaded on first use and never unloaded.  An adapter that lands in
the free part of a large cached segment pins that segment: the next long prompt needs another one,
until the device has none left and long prompts fail although gigabytes lie free in pieces.  That is
how serving processes with adapters or image encoders really die (vLLM #10637, SGLang #8902).
"""

from __future__ import annotations

import asyncio
import random
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from gpuward.simulator.allocator import OutOfMemory
from gpuward.simulator.llm.request import FinishedReason

if TYPE_CHECKING:
    from gpuward.daemon.clock import Clock
    from gpuward.simulator.llm.metrics import EngineMetrics
    from gpuward.simulator.workload_memory import Memory

MIB = 1 << 20
GIB = 1 << 30
WEIGHT_BLOCK_BYTES = GIB
KV_BLOCK_BYTES = 2 * MIB
TOKENS_PER_KV_BLOCK = 256
MAX_PROMPT_TOKENS = 32_768
MAX_OUTPUT_TOKENS = 4_096


class CompletionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/completions``: sizes instead of words."""

    prompt_tokens: int
    max_tokens: int
    adapter: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.prompt_tokens <= MAX_PROMPT_TOKENS:
            raise ValueError(f"prompt_tokens: 1 to {MAX_PROMPT_TOKENS}")
        if not 1 <= self.max_tokens <= MAX_OUTPUT_TOKENS:
            raise ValueError(f"max_tokens: 1 to {MAX_OUTPUT_TOKENS}")


@dataclass(frozen=True, slots=True)
class Sizing:
    """What a request costs, in memory and time; figures of a model of some 30 billion parameters.

    ``headroom_bytes``: device memory that weights leave free for everything else.
    """

    headroom_bytes: int = 16 * GIB
    prefill_bytes_per_token: int = 192 * 1024
    adapter_min_bytes: int = 96 * MIB
    adapter_max_bytes: int = 256 * MIB
    prefill_s_per_token: float = 6e-6
    token_s: float = 0.003
    max_running: int = 8


class Engine:
    """Serves completions out of one ``Memory``."""

    def __init__(
        self,
        memory: Memory,
        metrics: EngineMetrics,
        clock: Clock,
        *,
        seed: int,
        sizing: Sizing | None = None,
    ) -> None:
        self._memory = memory
        self._metrics = metrics
        self._clock = clock
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._sizing = Sizing() if sizing is None else sizing
        self._slots = asyncio.Semaphore(self._sizing.max_running)
        self._weights: list[object] = []
        self._adapters: dict[str, object] = {}

    def load_weights(self) -> None:
        """Fill the device up to the headroom, as an engine sized by its memory share does."""
        while self._memory.free_bytes >= self._sizing.headroom_bytes + WEIGHT_BLOCK_BYTES:
            self._weights.append(self._memory.malloc(WEIGHT_BLOCK_BYTES))

    async def complete(self, request: CompletionRequest) -> int:
        """Return how many tokens were generated; raises ``OutOfMemory``."""
        metrics, arrived_s = self._metrics, self._clock.mono_s()
        metrics.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            metrics.waiting -= 1
        metrics.running += 1
        metrics.queue.observe(self._clock.mono_s() - arrived_s)
        try:
            tokens = await self._run(request, arrived_s)
        except OutOfMemory:
            metrics.finished[FinishedReason.ERROR] += 1
            raise
        except asyncio.CancelledError:
            metrics.finished[FinishedReason.ABORT] += 1
            raise
        finally:
            metrics.running -= 1
            self._slots.release()
        metrics.e2e.observe(self._clock.mono_s() - arrived_s)
        stopped = tokens < request.max_tokens
        metrics.finished[FinishedReason.STOP if stopped else FinishedReason.LENGTH] += 1
        return tokens

    async def _run(self, request: CompletionRequest, arrived_s: float) -> int:
        held: list[object] = []
        try:
            metrics, began_s = self._metrics, self._clock.mono_s()
            await self._prefill(request, held)
            first_s = self._clock.mono_s()
            metrics.prompt_tokens += request.prompt_tokens
            metrics.prompt_lengths.observe(request.prompt_tokens)
            metrics.prefill.observe(first_s - began_s)
            metrics.first_token.observe(first_s - arrived_s)
            tokens = await self._decode(request, held)
            metrics.output_lengths.observe(tokens)
            metrics.decode.observe(self._clock.mono_s() - first_s)
            metrics.inference.observe(self._clock.mono_s() - began_s)
            metrics.inter_token.observe(self._sizing.token_s, tokens)
            metrics.time_per_token.observe(self._sizing.token_s)
            return tokens
        finally:
            for buffer in held:
                self._memory.free(buffer)

    async def _prefill(self, request: CompletionRequest, held: list[object]) -> None:
        sizing = self._sizing
        prefill = self._memory.malloc(request.prompt_tokens * sizing.prefill_bytes_per_token)
        try:
            self._grow(held, request.prompt_tokens)
            if request.adapter and request.adapter not in self._adapters:
                size = self._adapter_bytes(request.adapter)
                self._adapters[request.adapter] = self._memory.malloc(size)
            await self._pass(request.prompt_tokens * sizing.prefill_s_per_token)
        finally:
            self._memory.free(prefill)

    async def _decode(self, request: CompletionRequest, held: list[object]) -> int:
        tokens = self._random.randint(1, request.max_tokens)
        for done in range(1, tokens + 1):
            self._grow(held, request.prompt_tokens + done)
            self._metrics.generation_tokens += 1
        await self._pass(tokens * self._sizing.token_s)
        return tokens

    def _grow(self, held: list[object], tokens: int) -> None:
        while len(held) * TOKENS_PER_KV_BLOCK < tokens:
            held.append(self._memory.malloc(KV_BLOCK_BYTES))

    def _adapter_bytes(self, name: str) -> int:
        least, most = self._sizing.adapter_min_bytes, self._sizing.adapter_max_bytes
        return least + zlib.crc32(name.encode()) % (most - least)

    async def _pass(self, seconds: float) -> None:
        await self._clock.sleep_until(self._clock.mono_s() + seconds)
