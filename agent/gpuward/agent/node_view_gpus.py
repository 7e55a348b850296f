"""Choose what a person is shown of each GPU, from one snapshot.  Pure.

Memory that is lost to fragmentation and the headroom of who lives on a GPU come from taps; a GPU
without a tapped process has none of them, which is not the same as having no fragmentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gpuward.v1 import agent_pb2

# Numbers of the signals gpu_limiter and gpu_load_verdict; 0 is nothing.
LIMITERS = (
    "",
    "kv cache",
    "bandwidth",
    "compute",
    "nvlink",
    "pcie",
    "power",
    "capacity",
    "host",
    "heat",
    "power brake",
    "clock",
)
LOADS = ("", "efficient", "saturated", "stalled", "wedged", "degraded")


class Loudness(IntEnum):
    """Whom a finding reaches."""

    NOTE = 0
    TICKET = 1
    PAGE = 2


class Verdict(StrEnum):
    """What can be said of a GPU."""

    OK = "ok"
    # Nothing wrong in what was looked at, but the kernel's log was not.
    PARTIAL = "partial"
    # Nobody could look.
    UNKNOWN = "unknown"
    TICKET = "ticket"
    PAGE = "page"


@dataclass(frozen=True, slots=True)
class GpuRow:
    """A GPU, or a slice of one, whose ``index`` is ``None``; base units, ``None``: not known."""

    index: int | None
    uuid: str
    name: str
    serial: str
    verdict: Verdict
    memory_used_bytes: float | None
    memory_total_bytes: float | None
    # Of the tapped process that has least, and who that is.
    headroom_bytes: float | None
    headroom_process: str
    stranded_bytes: float | None
    releasable_bytes: float | None
    activity_ratio: float | None
    # The share of time in which any kernel ran, because nothing better is to be had.
    activity_is_coarse: bool
    temperature_celsius: float | None
    memory_temperature_celsius: float | None
    power_watts: float | None
    power_limit_watts: float | None
    pcie_generation: float | None
    pcie_generation_max: float | None
    pcie_width: float | None
    pcie_width_max: float | None
    ecc_corrected: float | None
    ecc_uncorrected: float | None
    remapped_rows: float | None
    remap_pending: bool | None
    remap_failed: bool | None
    # Of this boot, oldest first, each once; ``None``: nobody knows.
    xids: tuple[int, ...] | None
    limiter: str
    load: str
    unsupported: tuple[str, ...]


class Figures:
    """Looks figures of a snapshot up."""

    def __init__(self, snapshot: agent_pb2.Snapshot) -> None:
        self._of_gpu: dict[tuple[str, str], float] = {}
        # By signal and GPU: (value, process).
        self._of_processes: dict[tuple[str, str], list[tuple[float, str]]] = {}
        for value in snapshot.values:
            series = value.series
            place = (series.signal, series.gpu_uuid)
            if series.process_key:
                known = self._of_processes.setdefault(place, [])
                known.append((value.value, series.process_key))
            elif series.gpu_uuid:
                self._of_gpu[place] = value.value

    def gpu(self, signal: str, uuid: str) -> float | None:
        return self._of_gpu.get((signal, uuid))

    def processes(self, signal: str, uuid: str) -> list[tuple[float, str]]:
        return self._of_processes.get((signal, uuid), [])

    def process(self, signal: str, uuid: str, process: str) -> float | None:
        return next((v for v, key in self.processes(signal, uuid) if key == process), None)

    def total(self, signal: str, uuid: str) -> float | None:
        """Return the sum over the processes of a GPU, ``None`` when none of them says."""
        found = self.processes(signal, uuid)
        return sum(value for value, _ in found) if found else None

    def slices(self) -> Iterator[str]:
        """Yield the UUIDs of MIG devices, sorted."""
        yield from sorted(uuid for signal, uuid in self._of_gpu if signal == _MIG_TOTAL)


_MIG_TOTAL = "gpu_mig_memory_total_bytes"


def gpu_rows(
    figures: Figures,
    gpus: Iterable[agent_pb2.GpuIdentity],
    loudest: Mapping[str, Loudness],
    xids: Mapping[str, Sequence[int]] | None,
) -> tuple[GpuRow, ...]:
    """Return GPUs in order of their indexes, then slices.

    ``loudest``: of the findings about each GPU; ``xids``: codes by UUID, ``None``: nobody knows.
    """
    rows = []
    for gpu in sorted(gpus, key=lambda gpu: gpu.index):
        codes = None if xids is None else tuple(dict.fromkeys(xids.get(gpu.uuid, ())))
        verdict = _verdict(figures, gpu.uuid, loudest.get(gpu.uuid, Loudness.NOTE), codes)
        rows.append(_row(figures, gpu, verdict, codes))
    return (*rows, *(_slice_row(figures, uuid) for uuid in figures.slices()))


def _verdict(
    figures: Figures, uuid: str, loudness: Loudness, xids: tuple[int, ...] | None
) -> Verdict:
    if loudness is not Loudness.NOTE:
        return Verdict.PAGE if loudness is Loudness.PAGE else Verdict.TICKET
    # Every GPU has both; a GPU that shows neither was not looked at.
    signals = ("gpu_memory_used_bytes", "gpu_temperature_celsius")
    if any(figures.gpu(signal, uuid) is None for signal in signals):
        return Verdict.UNKNOWN
    return Verdict.PARTIAL if xids is None else Verdict.OK


def _row(
    figures: Figures,
    gpu: agent_pb2.GpuIdentity,
    verdict: Verdict,
    xids: tuple[int, ...] | None,
) -> GpuRow:
    def of(signal: str) -> float | None:
        return figures.gpu(signal, gpu.uuid)

    activity, is_coarse = _activity(figures, gpu.uuid)
    least = min(figures.processes("process_memory_headroom_bytes", gpu.uuid), default=None)
    return GpuRow(
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        serial=gpu.serial,
        verdict=verdict,
        memory_used_bytes=of("gpu_memory_used_bytes"),
        memory_total_bytes=of("gpu_memory_total_bytes"),
        headroom_bytes=None if least is None else least[0],
        headroom_process="" if least is None else least[1],
        stranded_bytes=figures.total("process_memory_stranded_bytes", gpu.uuid),
        releasable_bytes=figures.total("process_memory_releasable_bytes", gpu.uuid),
        activity_ratio=activity,
        activity_is_coarse=is_coarse,
        temperature_celsius=of("gpu_temperature_celsius"),
        memory_temperature_celsius=of("gpu_memory_temperature_celsius"),
        power_watts=of("gpu_power_draw_watts"),
        power_limit_watts=of("gpu_power_limit_watts"),
        pcie_generation=of("gpu_pcie_link_generation"),
        pcie_generation_max=of("gpu_pcie_link_generation_max"),
        pcie_width=of("gpu_pcie_link_width"),
        pcie_width_max=of("gpu_pcie_link_width_max"),
        ecc_corrected=of("gpu_ecc_corrected_total"),
        ecc_uncorrected=of("gpu_ecc_uncorrected_total"),
        remapped_rows=_sum(of("gpu_remapped_rows_corrected"), of("gpu_remapped_rows_uncorrected")),
        remap_pending=_flag(of("gpu_row_remap_pending")),
        remap_failed=_flag(of("gpu_row_remap_failed")),
        xids=xids,
        limiter=_word(LIMITERS, of("gpu_limiter")),
        load=_word(LOADS, of("gpu_load_verdict")),
        unsupported=tuple(gpu.unsupported_signals),
    )


def _slice_row(figures: Figures, uuid: str) -> GpuRow:
    nothing = dict.fromkeys(GpuRow.__dataclass_fields__)
    known = {
        "uuid": uuid,
        "name": "MIG",
        "serial": "",
        "verdict": Verdict.PARTIAL,
        "memory_used_bytes": figures.gpu("gpu_mig_memory_used_bytes", uuid),
        "memory_total_bytes": figures.gpu(_MIG_TOTAL, uuid),
        "headroom_process": "",
        "activity_is_coarse": False,
        "limiter": "",
        "load": "",
        "unsupported": (),
    }
    return GpuRow(**{**nothing, **known})  # type: ignore[arg-type]


def _activity(figures: Figures, uuid: str) -> tuple[float | None, bool]:
    active = figures.gpu("gpu_sm_active_ratio", uuid)
    if active is not None:
        return active, False
    return figures.gpu("gpu_utilization_ratio", uuid), True


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _flag(value: float | None) -> bool | None:
    return None if value is None else value > 0


def _word(words: Sequence[str], number: float | None) -> str:
    """Return the word for ``number``; a number that a newer agent uses has none."""
    known = number is not None and 0 <= number < len(words)
    return words[int(number)] if known and number is not None else ""
