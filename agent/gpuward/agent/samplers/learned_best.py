"""Sample the best that each card was ever seen to do, and keep it in a file of the state folder.

The file is small and changes a few times in a card's life.  One that cannot be read is begun anew:
the best is soon seen again, unless the card is sick, and then its siblings tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.learned_best import (
    CLOCK_BEST,
    GENERATION_BEST,
    WIDTH_BEST,
    Best,
    learn,
    name_of,
)
from gpuward.agent.learned_file import LearnedFile
from gpuward.agent.model import Batch, Sample, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gpuward.agent.model import Gpu
    from gpuward.agent.window import Window

# Cards that come and go over the years; the oldest learned is forgotten first.
MOST_CARDS = 256


class LearnedBest:
    """Learns from ``window`` and keeps what it learned at ``path``."""

    name = "learned_best"
    period_s = 10.0

    def __init__(self, path: Path, window: Callable[[float], Window]) -> None:
        self._file = LearnedFile(path, Best, most=MOST_CARDS)
        self._window = window
        self._known = self._file.read()

    async def sample(self, now_s: float) -> Batch:
        window = self._window(now_s)
        for gpu in window.gpus:
            known = self._known.get(name_of(gpu), Best())
            best = learn(window, gpu, known)
            if best != known:
                self._known[name_of(gpu)] = best
        if self._known:
            self._file.write(self._known)
        return Batch(samples=tuple(self._samples(window.gpus, now_s)))

    def _samples(self, gpus: tuple[Gpu, ...], now_s: float) -> Iterator[Sample]:
        for gpu in gpus:
            best = self._known.get(name_of(gpu), Best())
            for signal, value in (
                (GENERATION_BEST, best.pcie_link_generation),
                (WIDTH_BEST, best.pcie_link_width),
                (CLOCK_BEST, best.sm_clock_hertz),
            ):
                if value:
                    yield Sample(SeriesKey(signal, gpu=gpu.uuid), now_s, value)
