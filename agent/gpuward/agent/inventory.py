"""Which GPUs and processes there are, put together from what samplers say of them.

They say the same every second, and detectors ask for the same names at every turn; so one
``Inventory`` lives as long as nothing about it changes, and what was worked out from it with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpuward.agent.model import Gpu, Process

STALE_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class Inventory:
    """GPUs in order of their index, processes in order of their keys."""

    gpus: tuple[Gpu, ...] = ()
    processes: tuple[Process, ...] = ()
    # What ``remembered`` functions have found out about it.
    found: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)


class Inventories:
    """Keeps what each sampler said last, with the time: one that is gone falls silent."""

    def __init__(self) -> None:
        self._gpus: dict[str, tuple[Gpu, ...]] = {}
        self._processes: dict[str, tuple[float, tuple[Process, ...]]] = {}
        # What ``_last`` was made of.
        self._parts: tuple[tuple[object, ...], ...] = ()
        self._last = Inventory()

    def say_gpus(self, source: str, gpus: tuple[Gpu, ...]) -> None:
        if self._gpus.get(source) != gpus:
            self._gpus[source] = gpus

    def say_processes(self, source: str, processes: tuple[Process, ...], now_s: float) -> None:
        # The same again is the same object: nothing has changed.
        known = self.processes_of(source)
        self._processes[source] = (now_s, known if known == processes else processes)

    def processes_of(self, source: str) -> tuple[Process, ...]:
        """Return the processes that sampler ``source`` named last."""
        return self._processes.get(source, (0.0, ()))[1]

    def all_processes(self) -> Iterable[Process]:
        """Return whatever any sampler named last, however long ago."""
        return (process for _, some in self._processes.values() for process in some)

    def at(self, now_s: float) -> Inventory:
        """Return what there is; the same object while it is the same."""
        processes = [
            some for said_s, some in self._processes.values() if said_s >= now_s - STALE_AFTER_S
        ]
        parts = (*self._gpus.values(), *processes)
        if len(parts) != len(self._parts) or any(
            now is not before for now, before in zip(parts, self._parts, strict=True)
        ):
            self._parts = parts
            self._last = Inventory(
                _unique_gpus(gpu for gpus in self._gpus.values() for gpu in gpus),
                _merged_processes(process for some in processes for process in some),
            )
        return self._last


def _unique_gpus(gpus: Iterable[Gpu]) -> tuple[Gpu, ...]:
    by_uuid = {gpu.uuid: gpu for gpu in gpus}
    return tuple(sorted(by_uuid.values(), key=lambda gpu: gpu.index))


def _merged_processes(processes: Iterable[Process]) -> tuple[Process, ...]:
    """Join what NVML and the tap say of one process (same key, same pid) into one entry."""
    merged: dict[tuple[str, int], Process] = {}
    for process in processes:
        name = (process.key, process.pid)
        merged[name] = _joined(merged[name], process) if name in merged else process
    return tuple(merged[name] for name in sorted(merged))


def _joined(one: Process, other: Process) -> Process:
    return replace(
        one,
        start_ticks=one.start_ticks or other.start_ticks,
        gpus=tuple(dict.fromkeys(one.gpus + other.gpus)),
        unit=one.unit or other.unit,
        pod=one.pod or other.pod,
        pod_name=one.pod_name or other.pod_name,
        container=one.container or other.container,
        engine=one.engine or other.engine,
        model=one.model or other.model,
        service=one.service or other.service,
        tapped=one.tapped or other.tapped,
        rank=one.rank or other.rank,
        endpoint=one.endpoint or other.endpoint,
        port=one.port or other.port,
        is_tls=one.is_tls or other.is_tls,
        slices=tuple(dict.fromkeys(one.slices + other.slices)),
    )
