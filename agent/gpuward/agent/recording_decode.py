"""Turn records back into what samplers brought, without trust.  Pure.

A file may be from anybody: numbers of series that are not there, columns of different lengths,
times that run backwards and signals that nobody knows must not reach the judge.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

import msgspec

from gpuward.agent.kinds import KINDS
from gpuward.agent.model import Batch, Sample
from gpuward.agent.recording import (
    VERSION,
    Begun,
    Brought,
    Ended,
    Judged,
    Record,
    RecordingError,
    Series,
    Taken,
)
from gpuward.agent.recording_encode import MOST_SERIES
from gpuward.agent.signals import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.model import SeriesKey
    from gpuward.agent.recording import Moment

_DECODER = msgspec.msgpack.Decoder(list[Record])


class RecordDecoder:
    """Decodes one recording, chunk by chunk; raises ``RecordingError``."""

    def __init__(self) -> None:
        self.begun: Begun | None = None
        self.is_complete = False
        # Samples and events of signals and kinds that this version does not know.
        self.passed_over = 0
        self._series: list[SeriesKey] = []
        self._now_s = float("-inf")

    def decode(self, chunk: bytes) -> Iterator[Moment]:
        """Yield what the records of ``chunk`` tell."""
        try:
            records = _DECODER.decode(chunk)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise RecordingError(f"not records: {error}") from error
        for record in records:
            if self.begun is None:
                self._begin(record)
            elif isinstance(record, Taken):
                self._go_to(record.at_s)
                yield Brought(record.at_s, record.source, self._batch(record))
            elif isinstance(record, Judged):
                self._go_to(record.at_s)
                yield record
            elif isinstance(record, Series):
                self._name(record)
            elif isinstance(record, Ended):
                self.is_complete = True

    def _begin(self, record: Record) -> None:
        if not isinstance(record, Begun):
            raise RecordingError("it does not begin with who it is of")
        if record.version > VERSION:
            raise RecordingError(
                f"it is of version {record.version}; this gpuward reads {VERSION}: take a newer one"
            )
        if not isfinite(record.mono_s) or not isfinite(record.wall_offset_s):
            raise RecordingError("its clock is no number")
        self.begun = record

    def _go_to(self, at_s: float) -> None:
        # Also false of NaN.
        if not self._now_s <= at_s < float("inf"):
            raise RecordingError("its time runs backwards")
        self._now_s = at_s

    def _name(self, record: Series) -> None:
        if not 0 <= record.first <= len(self._series):
            raise RecordingError("its table of series has a gap")
        del self._series[record.first :]
        self._series += record.keys
        if len(self._series) > MOST_SERIES:
            raise RecordingError(f"more than {MOST_SERIES} series")

    def _batch(self, record: Taken) -> Batch:
        events = tuple(row.value() for row in record.events if row.kind in KINDS)
        self.passed_over += len(record.events) - len(events)
        return Batch(
            samples=tuple(self._samples(record)),
            events=events,
            gpus=None if record.gpus is None else tuple(row.value() for row in record.gpus),
            processes=(
                None if record.processes is None else tuple(row.value() for row in record.processes)
            ),
            services=(
                None if record.services is None else tuple(row.value() for row in record.services)
            ),
            driver=None if record.driver is None else record.driver.value(),
        )

    def _samples(self, record: Taken) -> Iterator[Sample]:
        count, times = len(record.series), record.times
        if len(times) == 1:
            times = times * count
        if len(record.values) != count or len(times) != count:
            raise RecordingError("columns of samples have different lengths")
        for number, at_s, value in zip(record.series, times, record.values, strict=True):
            if not 0 <= number < len(self._series):
                raise RecordingError(f"a sample of series {number}, which has no name")
            key = self._series[number]
            if key.signal not in SIGNALS or not isfinite(at_s):
                self.passed_over += 1
            else:
                yield Sample(key, at_s, value)
