"""The newest samples of one signal, and which of them are fresh, without a look at each.

All of a node is shown once a second, and nearly always nothing of a signal is stale.  So one time
is remembered that no sample is older than; while that one is fresh, they all are.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuward.agent.model import Sample, SeriesKey


class Newest:
    """By series in order of first sight; a sample is only ever replaced by a newer one."""

    __slots__ = ("_samples", "_since_s")

    def __init__(self) -> None:
        self._samples: dict[SeriesKey, Sample] = {}
        # No sample is older.
        self._since_s = inf

    def begin(self, first: Sample) -> None:
        """Take in the first sample of a series."""
        self._samples[first.key] = first
        self._since_s = min(self._since_s, first.at_s)

    def replace(self, sample: Sample) -> None:
        """Take in a newer sample of a series that has begun."""
        self._samples[sample.key] = sample

    def forget_older(self, oldest_s: float) -> list[SeriesKey]:
        """Forget the series whose newest sample is older; returns them."""
        old = [key for key, sample in self._samples.items() if sample.at_s < oldest_s]
        for key in old:
            del self._samples[key]
        return old

    def fresh(self, oldest_s: float) -> dict[SeriesKey, Sample]:
        """Return the samples that are no older; to be read at once, and not to be changed."""
        if self._since_s >= oldest_s:
            return self._samples
        self._since_s = min((sample.at_s for sample in self._samples.values()), default=inf)
        if self._since_s >= oldest_s:
            return self._samples
        return {key: sample for key, sample in self._samples.items() if sample.at_s >= oldest_s}
