"""Which GPUs of the node may be compared: those of one kind that do the same work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.probe_process import is_worker
from gpuward.agent.remembered import once_an_inventory

if TYPE_CHECKING:
    from gpuward.agent.model import Gpu
    from gpuward.agent.window import Window


@once_an_inventory
def siblings(window: Window) -> tuple[tuple[Gpu, ...], ...]:
    """Return groups of GPUs of one name that serve one model for the same services.

    A GPU with nothing on it, or cut into slices, has no siblings.
    """
    groups: dict[tuple[str, frozenset[tuple[str, str]]], list[Gpu]] = {}
    for gpu in window.gpus:
        work = frozenset(
            (process.service, process.model or process.engine or process.unit)
            for process in window.processes
            if gpu.uuid in process.gpus and not is_worker(process)
        )
        if work and not gpu.mig:
            groups.setdefault((gpu.name, work), []).append(gpu)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)
