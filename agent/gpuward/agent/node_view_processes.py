"""Choose what a person is shown of the processes whose allocator is seen.  Pure.

What the driver says that a process holds is no news; what of it is lost inside the process is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuward.agent.node_view_gpus import Figures

RESERVED = "process_memory_reserved_bytes"


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """The processes of one name on one GPU; bytes, ``None``: not known."""

    process: str
    gpu: int
    gpu_uuid: str
    reserved_bytes: float
    allocated_bytes: float | None
    stranded_bytes: float | None
    releasable_bytes: float | None
    headroom_bytes: float | None
    out_of_memory: float | None


def process_rows(figures: Figures, indexes: Mapping[str, int]) -> tuple[ProcessRow, ...]:
    """Return who has most to lose first: by stranded memory, then by reserved memory."""
    rows = [
        _row(figures, process, reserved, uuid, index)
        for uuid, index in indexes.items()
        for reserved, process in figures.processes(RESERVED, uuid)
    ]
    return tuple(
        sorted(rows, key=lambda r: (-(r.stranded_bytes or 0.0), -r.reserved_bytes, r.process))
    )


def _row(figures: Figures, process: str, reserved: float, uuid: str, index: int) -> ProcessRow:
    def of(signal: str) -> float | None:
        return figures.process(signal, uuid, process)

    return ProcessRow(
        process=process,
        gpu=index,
        gpu_uuid=uuid,
        reserved_bytes=reserved,
        allocated_bytes=of("process_memory_allocated_bytes"),
        stranded_bytes=of("process_memory_stranded_bytes"),
        releasable_bytes=of("process_memory_releasable_bytes"),
        headroom_bytes=of("process_memory_headroom_bytes"),
        out_of_memory=of("process_out_of_memory_total"),
    )
