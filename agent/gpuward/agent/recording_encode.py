"""Turn what samplers bring into records.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gpuward.agent.recording import VERSION, Begun, Ended, Judged, Series, Taken
from gpuward.agent.recording_names import Names
from gpuward.agent.recording_rows import (
    DriverRow,
    EventRow,
    GpuRow,
    ProcessRow,
    ServiceRow,
    row_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuward.agent.model import Batch, Sample, SeriesKey
    from gpuward.agent.recording import Record

# Then the table is begun anew, so that processes that come and go do not fill a reader's memory.
MOST_SERIES = 65_536
# A batch is cut into pieces of so many samples, each of which is quickly encoded.
PIECE = 4_096


class RecordEncoder:
    """Encodes one recording; ``with_names``: as they are, else others that tell nothing."""

    def __init__(self, *, with_names: bool) -> None:
        self.with_names = with_names
        self._names = Names()
        self._series: dict[SeriesKey, int] = {}

    def begun(self, *, agent_version: str, node: str, mono_s: float, wall_s: float) -> Begun:
        """Return the first record."""
        name = node if self.with_names else self._names.name("host", node)
        return Begun(VERSION, agent_version, name, mono_s, wall_s - mono_s, self.with_names)

    def taken(self, at_s: float, source: str, batch: Batch) -> Iterator[Record]:
        """Yield the records of a batch."""
        said = batch if self.with_names else self._names.batch(batch)
        pieces = [batch.samples[at : at + PIECE] for at in range(0, len(batch.samples), PIECE)]
        # Samples first, as they are taken in.
        for piece in pieces[:-1]:
            yield from self._samples(at_s, source, piece)
        *names, taken = self._samples(at_s, source, pieces[-1] if pieces else ())
        yield from names
        yield msgspec.structs.replace(
            taken,
            events=[row_of(EventRow, event) for event in said.events],
            gpus=None if said.gpus is None else [row_of(GpuRow, gpu) for gpu in said.gpus],
            processes=(
                None
                if said.processes is None
                else [row_of(ProcessRow, process) for process in said.processes]
            ),
            services=(
                None
                if said.services is None
                else [row_of(ServiceRow, totals) for totals in said.services]
            ),
            driver=None if said.driver is None else row_of(DriverRow, said.driver),
        )

    def judged(self, at_s: float, number: int) -> Judged:
        return Judged(at_s, number)

    def ended(self, at_s: float) -> Ended:
        return Ended(at_s)

    def _samples(self, at_s: float, source: str, samples: Sequence[Sample]) -> Iterator[Record]:
        """Yield the names that are new, if any, and the samples."""
        fresh = [key for key in dict.fromkeys(s.key for s in samples) if key not in self._series]
        if len(self._series) + len(fresh) > MOST_SERIES:
            self._series.clear()
            fresh = list(dict.fromkeys(sample.key for sample in samples))
        if fresh:
            first = len(self._series)
            self._series.update((key, first + place) for place, key in enumerate(fresh))
            shown = fresh if self.with_names else map(self._names.key, fresh)
            yield Series(first, list(shown))
        times = [sample.at_s for sample in samples]
        if len(set(times)) == 1:
            del times[1:]
        yield Taken(
            at_s,
            source,
            [self._series[sample.key] for sample in samples],
            times,
            [sample.value for sample in samples],
        )
