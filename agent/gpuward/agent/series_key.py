"""Make the name of a series once: samplers and detectors ask for the same few hundred every second.

Making one takes longer than looking it up, and one that is the same object is found in a dictionary
without comparing five strings.
"""

from __future__ import annotations

from functools import lru_cache

from gpuward.agent.model import SeriesKey

# Above the bound of series that are kept.
MAX_KNOWN = 16_384


@lru_cache(maxsize=MAX_KNOWN)
def series_key(signal: str, gpu: str = "", process: str = "") -> SeriesKey:
    """Return the key of a series of the node, a GPU, or a process on it."""
    return SeriesKey(signal, gpu, process)
