"""What would help after an out-of-memory error: it depends on where the memory was.

In pieces: what was free in them, unless it is graphs' own, is what a restart gives back.  In the
neighbours' caches: they can give it back, and a restart of the process that failed would change
nothing.  Nowhere: it has to come from somewhere, and nothing that the process does would help.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gpuward.agent.fragmentation_cache import cache_of
from gpuward.agent.fragmentation_oom import ACTIONS, Attribution
from gpuward.agent.fragmentation_remedies import VLLM, action, remedies, remedy, smaller_share
from gpuward.agent.memory_around import around
from gpuward.agent.model import SeriesKey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.model import Action, Event, Evidence, Subject
    from gpuward.agent.window import Window

GPU_TOTAL = "gpu_memory_total_bytes"


def after_oom(
    event: Event, cause: Attribution, window: Window, subject: Subject
) -> tuple[Action, tuple[Evidence, ...]]:
    """Return the least harmful thing that would help, and what helps how much."""
    if cause is Attribution.FRAGMENTATION:
        return _in_pieces(event, window, subject)
    if cause is Attribution.NEIGHBOUR:
        flush = remedy(
            "neighbours_empty_cache",
            event.values.get("neighbours_releasable_bytes", 0.0),
            "Restarting the process would not help; torch.cuda.empty_cache() in the other processes"
            " on the GPU gives back",
        )
        return ACTIONS[cause], (flush,)
    return ACTIONS[cause], tuple(_where_there_is_none(event, window, subject))


def _in_pieces(
    event: Event, window: Window, subject: Subject
) -> tuple[Action, tuple[Evidence, ...]]:
    cache = cache_of(window, subject.process, subject.gpu)
    if cache is None:
        return ACTIONS[Attribution.FRAGMENTATION], ()
    known = around(window, cache, subject)
    # What was free then, not now; counted, not guessed.  How little room is left is another story.
    free = max(0.0, event.values.get("cache_free_bytes", 0.0) - known.private_pool)
    then = replace(cache, stranded=free, releasable=0, headroom=None)
    known = replace(known, is_walked=True)
    return action(then, known), tuple(remedies(then, known))


def _where_there_is_none(event: Event, window: Window, subject: Subject) -> Iterator[Evidence]:
    given = ("device_free_bytes", "neighbours_releasable_bytes")
    missing = event.values.get("requested_bytes", 0.0) - sum(
        event.values.get(name, 0.0) for name in given
    )
    yield remedy(
        "more_memory",
        missing,
        "A larger GPU, fewer neighbours or the model split over more GPUs has to give",
        after=" for this request",
    )
    cache = cache_of(window, subject.process, subject.gpu)
    total = window.latest(SeriesKey(GPU_TOTAL, gpu=subject.gpu))
    if subject.engine == VLLM and cache is not None and total is not None:
        known = around(window, cache, subject)
        yield from smaller_share(missing, total.value, "this request", known)
