"""How much of a process's allocator is in sight, and why not more.  Pure.

C++ engines are blind by nature, because a tap asks torch; beside an allocator that takes Python's
lock a tap must not ask; a process without a tap could be seen.  A tap that lives and says nothing
new belongs to a process that does nothing: what it said last is still so.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from gpuward.agent.fragmentation_cache import RESERVED, members
from gpuward.agent.model import SeriesKey

if TYPE_CHECKING:
    from gpuward.agent.model import Sample
    from gpuward.agent.window import Window

TAP_DEGRADED = "process_tap_degraded"
# 0 while this user may not look for taps, or not into some that are there.
TAPS_READABLE = SeriesKey("node_taps_readable")
# Engines in C++, by the name that the agent gives them; trtllm-serve is torch by default.
WITHOUT_TORCH = frozenset({"llama.cpp", "tensorrt", "triton"})


class Sight(StrEnum):
    """What of a process can be seen."""

    TAPPED = "tapped"
    # There is a tap, and its figures are old.
    SILENT = "silent"
    # There is a tap, and it tells nothing of the allocator.
    DEGRADED = "degraded"
    BLIND = "blind"


class Reason(StrEnum):
    """Why not all of it; empty where all of it can be seen."""

    NONE = ""
    SILENT_TAP = "silent tap"
    DEGRADED_TAP = "degraded tap"
    NO_TAP = "no tap"
    UNREADABLE_TAPS = "taps unreadable"
    NO_TORCH = "no torch"


@dataclass(frozen=True, slots=True)
class Coverage:
    """What can be seen of a process on a GPU, and why not more."""

    sight: Sight
    reason: Reason

    @property
    def could_be_more(self) -> bool:
        """Return whether a tap would show it."""
        return self.reason in (Reason.NO_TAP, Reason.UNREADABLE_TAPS)


def coverage(
    *, is_seen: bool, has_tap: bool, is_degraded: bool, engine: str, are_taps_readable: bool
) -> Coverage:
    """Return what can be seen of a process.

    ``is_seen``: figures of its allocator are fresh; ``has_tap``: a tap file of it lives;
    ``are_taps_readable``: it would be known if it had one.
    """
    if is_seen:
        return Coverage(Sight.TAPPED, Reason.NONE)
    if is_degraded:
        return Coverage(Sight.DEGRADED, Reason.DEGRADED_TAP)
    if has_tap:
        return Coverage(Sight.SILENT, Reason.SILENT_TAP)
    if engine in WITHOUT_TORCH:
        return Coverage(Sight.BLIND, Reason.NO_TORCH)
    return Coverage(Sight.BLIND, Reason.NO_TAP if are_taps_readable else Reason.UNREADABLE_TAPS)


def are_readable(latest: Sample | None) -> bool:
    """Return what the latest sample of ``TAPS_READABLE`` says; without one nothing is wrong."""
    return latest is None or latest.value > 0.0


def coverage_of(window: Window, process: str, gpu: str) -> Coverage:
    """Return what can be seen of the processes that go by one key on a GPU."""
    found = members(window, process, gpu)
    return coverage(
        is_seen=window.latest(SeriesKey(RESERVED, gpu=gpu, process=process)) is not None,
        is_degraded=window.latest(SeriesKey(TAP_DEGRADED, gpu=gpu, process=process)) is not None,
        has_tap=any(one.tapped for one in found),
        engine=next((one.engine for one in found if one.engine), ""),
        are_taps_readable=are_readable(window.latest(TAPS_READABLE)),
    )
