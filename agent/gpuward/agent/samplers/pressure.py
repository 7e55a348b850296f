"""Sample how long tasks of the node waited for a core, for memory and for a disk.

A host that starves delays every launch of a kernel and every token, and looks like a slow GPU from
outside.  The kernel counts the microseconds in which at least one task waited: the ``some`` line of
/proc/pressure/*, Linux's Documentation/accounting/psi.rst.  A rate of that count is the turn's own;
``avg10`` would still show what is over.  A kernel without these files, or booted with ``psi=0``,
has no pressure to show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.model import Batch, Sample, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIGNALS = {
    "cpu": "node_cpu_pressure_ratio",
    "memory": "node_memory_pressure_ratio",
    "io": "node_io_pressure_ratio",
}
MICROSECOND_S = 1e-6


class PressureSampler:
    """Reads the counters below ``directory`` and tells their rates since the turn before."""

    name = "pressure"
    period_s = 5.0

    def __init__(self, directory: Path) -> None:
        self._paths = {resource: directory / resource for resource in SIGNALS}
        # By resource: time of the last look, and the seconds waited until then.
        self._before: dict[str, tuple[float, float]] = {}

    async def sample(self, now_s: float) -> Batch:
        return Batch(samples=tuple(self._samples(now_s)))

    def _samples(self, now_s: float) -> Iterator[Sample]:
        for resource, path in self._paths.items():
            waited_s = _read(path)
            before = self._before.pop(resource, None)
            if waited_s is None:
                continue
            self._before[resource] = (now_s, waited_s)
            if before is None or now_s <= before[0] or waited_s < before[1]:
                continue
            ratio = (waited_s - before[1]) / (now_s - before[0])
            # The kernel's clock and ours tick apart by a little.
            yield Sample(SeriesKey(SIGNALS[resource]), now_s, min(1.0, ratio))


def _read(path: Path) -> float | None:
    try:
        return some_waited_s(path.read_text("ascii", "replace"))
    except OSError:
        return None


def some_waited_s(text: str) -> float | None:
    """Return the seconds since boot in which some task waited; ``None`` where none are told.

    ``text``: lines ``some avg10=0.00 avg60=0.00 avg300=0.00 total=12345``, in microseconds.
    """
    for line in text.splitlines():
        kind, *fields = line.split()[:8] or [""]
        total = next((field[6:] for field in fields if field.startswith("total=")), "")
        if kind == "some" and total.isdecimal():
            return int(total) * MICROSECOND_S
    return None
