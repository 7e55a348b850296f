"""Which processes hold a GPU's memory, and how busy each keeps it, as NVML lists them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from gpuward.agent import nvml_protocol as protocol
from gpuward.agent.known_processes import KnownProcesses
from gpuward.agent.model import Process
from gpuward.agent.nvml_conditions import Unavailable, Unsupported
from gpuward.agent.process_identity import UNIDENTIFIED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gpuward.agent.nvml_device import Slot

PROCESS_LIMIT = 512
PERCENT = 100
# nvml.h: of a process that is in no MIG device, or of which only its owner may know.
NO_INSTANCE = 0xFFFFFFFF
INSTANCES = ("gpuInstanceId", "computeInstanceId")

# Lists of processes, each with its older form; both kinds hold memory.
PROCESS_LISTS = (
    ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2"),
    ("nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2"),
)


class HolderLists:
    """The process lists of one GPU."""

    def __init__(self, nvml: Any, handle: Any, slot: Slot, proc_root: Path) -> None:
        self._nvml = nvml
        self._handle = handle
        self._slot = slot
        self._known = KnownProcesses(proc_root)
        self._lists = [list(names) for names in PROCESS_LISTS]
        self._has_utilization = True
        self._seen_us = 0

    def read(self) -> tuple[protocol.Holder, ...] | None:
        """Return the processes that hold memory; ``None`` when NVML cannot list them."""
        lists = [found for names in self._lists if (found := self._list(names)) is not None]
        if not lists:
            return None
        memory: dict[int, int | None] = {}
        entries = [entry for found in lists for entry in found][:PROCESS_LIMIT]
        for entry in entries:
            # A process with compute and graphics contexts is in both lists with one total.
            memory[entry.pid] = max(
                (size for size in (memory.get(entry.pid), entry.usedGpuMemory) if size is not None),
                default=None,
            )
        busy = self._utilization() if memory else {}
        instances = _instances(entries)
        self._known.forget_all_but(memory.keys())
        return tuple(
            protocol.Holder(self._identify(pid), size, busy.get(pid), instances.get(pid, ()))
            for pid, size in sorted(memory.items())
        )

    def _list(self, names: list[str]) -> list[Any] | None:
        while names:
            try:
                with self._slot.calling(names[0]):
                    return list(getattr(self._nvml, names[0])(self._handle))
            except Unsupported:
                names.pop(0)
            except Unavailable:
                break
        return None

    def _utilization(self) -> dict[int, float]:
        """Return each process's newest share of time with a kernel running, since the last turn.

        NVML says "not found", or succeeds with nothing, when there are no new samples.
        """
        if not self._has_utilization:
            return {}
        try:
            with self._slot.calling("nvmlDeviceGetProcessUtilization"):
                samples = self._nvml.nvmlDeviceGetProcessUtilization(self._handle, self._seen_us)
        except Unsupported:
            self._has_utilization = False
            return {}
        except Unavailable:
            return {}
        newest = {sample.pid: sample for sample in sorted(samples, key=lambda each: each.timeStamp)}
        self._seen_us = max((sample.timeStamp for sample in samples), default=self._seen_us)
        # More than a hundred per cent has been seen; it is garbage, not load.
        return {
            pid: sample.smUtil / PERCENT
            for pid, sample in newest.items()
            if sample.smUtil <= PERCENT
        }

    def _identify(self, pid: int) -> Process:
        with self._slot.calling("read /proc", is_driver=False):
            found = self._known.who(pid, time.monotonic())
        # Gone since, or of a pid namespace that this one does not see.
        return found or Process(key=UNIDENTIFIED, pid=pid, start_ticks=0)


def _instances(entries: Iterable[Any]) -> dict[int, tuple[tuple[int, int], ...]]:
    """Return by pid where in a GPU that is cut it is; the oldest form of a list does not say."""
    found: dict[int, dict[tuple[int, int], None]] = {}
    for entry in entries:
        one = tuple(getattr(entry, name, NO_INSTANCE) for name in INSTANCES)
        if NO_INSTANCE not in one:
            found.setdefault(entry.pid, {})[one[0], one[1]] = None
    return {pid: tuple(instances) for pid, instances in found.items()}
