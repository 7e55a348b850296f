"""Let recordings listen to the judge: what samplers bring, in the order in which it is judged.

A recording begins with the five minutes that the judge remembers, so that whoever starts one when
something has just happened has it too.  That is a hundred thousand points: they are encoded in
pieces, with pauses, while what comes meanwhile waits.  Whoever reads too slowly is told so and let
go: a recording has no gaps.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from gpuward.agent.model import Batch
from gpuward.agent.recording import Brought, Judged
from gpuward.agent.recording_encode import RecordEncoder
from gpuward.agent.version import VERSION
from gpuward.agent.window import EVENT_KEEP_S, RING_KEEP_S

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from gpuward.agent.model import Event, Sample
    from gpuward.agent.recording import Moment, Record
    from gpuward.agent.window import Window

MOST_RECORDERS = 2
# Seconds that a reader may be behind.
MOST_WAITING = 60
KEPT_EVENTS = 1_000
# What the points of before a recording are said to be from.
BEFORE = "before"
# Two milliseconds, between which others have their turn.
BEFORE_PIECE = 1_000


class TooManyRecordersError(Exception):
    """All places are taken; the message says so."""


class TooSlowError(Exception):
    """The reader was left behind; the message says so."""


class Recorder:
    """One recording: what is still to be written, a piece for each judgement."""

    def __init__(self) -> None:
        self._moments: list[Moment] = []
        self._waiting: deque[list[Moment]] = deque()
        self._arrived = asyncio.Event()
        self._is_left_behind = False

    def taken(self, at_s: float, source: str, batch: Batch) -> None:
        self._moments.append(Brought(at_s, source, batch))

    def judged(self, at_s: float, number: int) -> None:
        self._moments.append(Judged(at_s, number))
        if len(self._waiting) >= MOST_WAITING:
            self._is_left_behind = True
        else:
            self._waiting.append(self._moments)
        self._moments = []
        self._arrived.set()

    async def moments(self) -> list[Moment]:
        """Return what came until the next judgement; raises ``TooSlowError`` at a gap."""
        while not self._waiting and not self._is_left_behind:
            await self._arrived.wait()
            self._arrived.clear()
        if self._is_left_behind:
            raise TooSlowError(f"the reader is more than {MOST_WAITING} judgements behind")
        return self._waiting.popleft()


class Recorders:
    """Everyone who records; the judge tells what it takes in, and when it judges."""

    def __init__(self) -> None:
        self._open: list[Recorder] = []
        # What each sampler said last beside samples, and what happened lately.
        self._said: dict[str, Batch] = {}
        self._events: deque[tuple[str, Event]] = deque(maxlen=KEPT_EVENTS)

    def taken(self, at_s: float, source: str, batch: Batch) -> None:
        """Note what the judge takes in."""
        known = self._said.get(source, Batch())
        self._said[source] = Batch(
            gpus=known.gpus if batch.gpus is None else batch.gpus,
            processes=known.processes if batch.processes is None else batch.processes,
            services=known.services if batch.services is None else batch.services,
            driver=known.driver if batch.driver is None else batch.driver,
        )
        self._events += [(source, event) for event in batch.events]
        for recorder in self._open:
            recorder.taken(at_s, source, batch)

    def judged(self, at_s: float, number: int) -> None:
        """Note that the judge judges, and forget the events that it has forgotten."""
        while self._events and self._events[0][1].at_s < at_s - EVENT_KEEP_S:
            self._events.popleft()
        for recorder in self._open:
            recorder.judged(at_s, number)

    async def record(
        self, window: Window, *, node: str, wall_s: float, for_s: float, with_names: bool
    ) -> AsyncGenerator[bytes, None]:
        """Yield chunks for ``for_s``, those of before first.

        ``window``: of now.  Raises ``TooManyRecordersError`` and ``TooSlowError``.
        """
        if len(self._open) >= MOST_RECORDERS:
            raise TooManyRecordersError(f"{MOST_RECORDERS} record already")
        encoder = RecordEncoder(with_names=with_names)
        recorder = Recorder()
        said = [
            (source, replace(batch, events=self._events_of(source)))
            for source, batch in self._said.items()
        ]
        self._open.append(recorder)
        try:
            begun = encoder.begun(
                agent_version=VERSION, node=node, mono_s=window.now_s, wall_s=wall_s
            )
            yield msgspec.msgpack.encode([begun])
            for source, batch in chain(said, _before(window)):
                yield msgspec.msgpack.encode([*encoder.taken(window.now_s, source, batch)])
            now_s = window.now_s
            while now_s < window.now_s + for_s:
                moments = await recorder.moments()
                now_s = moments[-1].at_s
                yield msgspec.msgpack.encode([*_encoded(encoder, moments)])
            yield msgspec.msgpack.encode([encoder.ended(now_s)])
        finally:
            self._open.remove(recorder)

    def _events_of(self, source: str) -> tuple[Event, ...]:
        return tuple(event for who, event in self._events if who == source)


def _before(window: Window) -> Iterator[tuple[str, Batch]]:
    """Yield the points of before ``window``, piece by piece; those that came since are no part."""
    piece: list[Sample] = []
    for key in list(window.fresh()):
        points = window.values(key, window.now_s - RING_KEEP_S)
        piece += [point for point in points if point.at_s <= window.now_s]
        if len(piece) >= BEFORE_PIECE:
            yield BEFORE, Batch(samples=tuple(piece))
            piece = []
    yield BEFORE, Batch(samples=tuple(piece))


def _encoded(encoder: RecordEncoder, moments: Sequence[Moment]) -> Iterator[Record]:
    for moment in moments:
        if isinstance(moment, Judged):
            yield moment
        else:
            yield from encoder.taken(moment.at_s, moment.source, moment.batch)
