"""Collapse storms: the first events of a code on a GPU one by one, then one a minute that counts.

One program's bug wrote 672 lines of XID 45 in three hours, and each became a fault of its own
(NVIDIA/NVSentinel#1710).  Nothing is lost: an event that stands for others says for how many.  What
is let through depends on the times of the events alone, so a log that is read twice gives the same
events twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.model import Event

# "Preemptive removal": the driver cleans up channels after another error, often hundreds.
CLEAN_UP = 45
MINUTE_S = 60.0
# Of one code on one GPU, in a minute.
ONE_BY_ONE = 10
# How many events an event stands for, in its values.
EVENTS = "xid_events"


@dataclass(slots=True)
class _Minute:
    """The minute of one code on one GPU: how many passed, and what waits for its end."""

    began_s: float
    passed: int = 0
    held: int = 0
    last: Event | None = None


class Storms:
    """A fold over events in order of time; one a sampler."""

    def __init__(self) -> None:
        self._minutes: dict[tuple[str, str, int], _Minute] = {}

    def take(self, event: Event) -> Iterator[Event]:
        """Yield what is to be told now that ``event`` has happened."""
        key = (event.kind, event.gpu, event.code)
        yield from self._end(key, event.at_s)
        minute = self._minutes.setdefault(key, _Minute(event.at_s))
        if minute.passed < (1 if event.code == CLEAN_UP else ONE_BY_ONE):
            minute.passed += 1
            yield event
        else:
            minute.held += 1
            minute.last = event

    def due(self, now_s: float) -> Iterator[Event]:
        """Yield what the minutes that are over have held back."""
        for key in list(self._minutes):
            yield from self._end(key, now_s)

    def _end(self, key: tuple[str, str, int], now_s: float) -> Iterator[Event]:
        minute = self._minutes.get(key)
        if minute is None or now_s < minute.began_s + MINUTE_S:
            return
        del self._minutes[key]
        if minute.last is None:
            return
        yield replace(
            minute.last,
            values=MappingProxyType({**minute.last.values, EVENTS: float(minute.held)}),
        )
        if now_s < minute.began_s + 2 * MINUTE_S:
            # The storm may go on: its next minute is one event from the beginning.
            self._minutes[key] = _Minute(minute.began_s + MINUTE_S, passed=ONE_BY_ONE)
