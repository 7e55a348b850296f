"""Three ways in which inference fills memory, on the replica of torch's caching allocator.

A step is a second of serving.  Load, sizes and lifetimes are drawn per run from its seed, from idle
to more than the device can hold; a request that finds no memory is dropped and serving goes on, as
engines do.  After research on user threads: vLLM's paged KV cache beside variable prefills, image
buffers and adapters; Hugging Face's cache that is copied as it grows; diffusion with changing image
sizes and adapters that come and go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gpuward.simulator.allocator import OutOfMemory

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from gpuward.simulator.allocator import CachingAllocator
    from gpuward.simulator.allocator_blocks import Block

MIB = 2**20
GIB = 2**30


@dataclass(slots=True)
class Workload:
    """One serving process: ``held`` are buffers and the step that frees them."""

    allocator: CachingAllocator
    random: random.Random
    load: float
    step: int = 0
    held: list[tuple[int, list[Block]]] = field(default_factory=list)
    sequences: list[list[int]] = field(default_factory=list)
    caches: list[Block] = field(default_factory=list)

    def lognormal(self, median: float, sigma: float, most: float) -> int:
        return int(min(most, self.random.lognormvariate(0.0, sigma) * median))

    def take(self, sizes: Sequence[int]) -> list[Block]:
        """Return buffers of all ``sizes``, or none when one found no memory."""
        got: list[Block] = []
        try:
            # Into the list one by one: what was taken before the one that failed is given back.
            got.extend(self.allocator.malloc(size) for size in sizes)
        except OutOfMemory:
            self.give_back(got)
            return []
        return got

    def keep(self, sizes: Sequence[int], steps: int) -> None:
        if got := self.take(sizes):
            self.held.append((self.step + steps, got))

    def give_back(self, blocks: list[Block]) -> None:
        for block in blocks:
            self.allocator.free(block)

    def begin_step(self) -> None:
        self.step += 1
        over = [blocks for until, blocks in self.held if until <= self.step]
        self.held = [(until, blocks) for until, blocks in self.held if until > self.step]
        for blocks in over:
            self.give_back(blocks)


def paged(work: Workload) -> None:
    """Weights and one KV pool for ever; prefills, images and adapters in what is left."""
    if work.step == 0:
        work.keep([256 * MIB] * 12 + [2 * GIB], 10**9)
    work.begin_step()
    for _ in range(1 + int(work.random.random() * 3 * work.load)):
        tokens = work.lognormal(900, 0.9, 16_000)
        work.give_back(work.take([tokens * 64 * 1024, tokens * 24 * 1024, tokens * 8 * 1024]))
    if work.random.random() < 0.25 * work.load:
        lifetime = work.lognormal(40, 0.7, 300)
        work.keep([work.lognormal(48 * MIB, 0.6, 400 * MIB)], lifetime)
    if work.random.random() < 0.06 * work.load:
        lifetime = work.lognormal(200, 0.8, 3_000)
        work.keep([work.lognormal(24 * MIB, 0.5, 128 * MIB)] * 4, lifetime)


def growing(work: Workload) -> None:
    """Each sequence's cache is copied into a larger one as it grows, as ``torch.cat`` does."""
    if work.step == 0:
        work.keep([192 * MIB] * 18, 10**9)
    work.begin_step()
    if work.random.random() < 0.22 * work.load:
        prompt = work.lognormal(700, 0.8, 8_000)
        if got := work.take([prompt * 128 * 1024]):
            work.caches += got
            work.sequences.append([prompt, prompt + work.lognormal(900, 0.7, 6_000)])
    for place in reversed(range(len(work.sequences))):
        tokens, last = work.sequences[place]
        grown = work.take([(tokens + 48) * 128 * 1024])
        work.give_back([work.caches[place]])
        if not grown or tokens + 48 >= last:
            work.give_back(grown)
            del work.sequences[place], work.caches[place]
        else:
            work.caches[place] = grown[0]
            work.sequences[place][0] = tokens + 48


def diffusion(work: Workload) -> None:
    """Images of many sizes, one batch a step, and adapters that are loaded and dropped."""
    if work.step == 0:
        work.keep([128 * MIB] * 20, 10**9)
    work.begin_step()
    side = work.random.choice((512, 640, 768, 896, 1024, 1216, 1536))
    images = 1 + int(work.random.random() * 3 * work.load)
    pixels = side * (side + 64 * work.random.randrange(8)) * images
    activations = work.take([pixels * 96, pixels * 240, pixels * 48, pixels * 160])
    if work.random.random() < 0.12 * work.load:
        lifetime = work.lognormal(60, 0.8, 600)
        work.keep([work.lognormal(14 * MIB, 0.7, 96 * MIB)] * 6, lifetime)
    work.give_back(activations)


WORKLOADS: dict[str, Callable[[Workload], None]] = {
    "paged": paged,
    "growing": growing,
    "diffusion": diffusion,
}
