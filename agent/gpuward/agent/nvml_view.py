"""What the NVML child's messages add up to: GPUs, their processes, the driver. Pure.

GPUs keep their last known identity when they are lost or the driver goes, so that a kernel line
about them can still be given a name; their samples simply end.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from functools import lru_cache, partial
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

from gpuward.agent import nvml_protocol as protocol
from gpuward.agent.lost_gpu import LostGpu
from gpuward.agent.model import Gpu, Process, Sample, SeriesKey
from gpuward.agent.series_key import series_key
from gpuward.agent.signals import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# An inventory older than its samples' life is no inventory.
HOLDERS_STALE_S = SIGNALS["process_gpu_memory_bytes"].stale_after_s

LEAVING = "the driver has announced that it leaves its GPUs"
MOST_XIDS = 1_000


# Sets of signals that GPUs and their slices give in one message: a few each.
MOST_SETS = 4_096
_sample = partial(tuple.__new__, Sample)


class ReportedXid(NamedTuple):
    """An XID as NVML reports it: of which GPU, which, when it was heard of, when it was not yet."""

    gpu: str
    code: int
    at_s: float
    since_s: float


class View:
    """A fold over messages; one lives through any number of children."""

    def __init__(self) -> None:
        self.up = False
        self.version = ""
        # Why the driver is down; empty while it is up or was never asked.
        self.reason = ""
        # nvmlReturn_t that goes with the reason, where NVML gave it.
        self.code = 0
        self._denied: dict[int, tuple[str, ...]] = {}
        # What NVML reported and nobody has fetched; the kernel's log says more, where it is read.
        self.xids: deque[ReportedXid] = deque(maxlen=MOST_XIDS)
        self._lost: dict[int, protocol.Trouble] = {}
        self.heartbeat: protocol.Heartbeat | None = None
        self._present = 0
        self._read: set[int] = set()
        self._gpus: dict[int, Gpu] = {}
        self._holders: dict[int, protocol.Holders] = {}
        # What ``processes`` found out, and of which lists of which GPUs.
        self._listed: list[tuple[Gpu, protocol.Holders]] = []
        self._processes: tuple[Process, ...] = ()

    def gpus(self) -> tuple[Gpu, ...]:
        return tuple(gpu for _, gpu in sorted(self._gpus.items()))

    def is_complete(self) -> bool:
        """Return whether everything there is has been heard of: each GPU, or that none can be."""
        if not self.up:
            return bool(self.reason)
        return len(self._read | self._lost.keys()) >= self._present

    def uuid(self, index: int) -> str:
        """Return the GPU's UUID, empty when it has not said it."""
        return self._gpus[index].uuid if index in self._gpus else ""

    def answering(self) -> int:
        """Return how many GPUs answer as GPUs; one lost before it said its name never did."""
        return len(self._gpus.keys() - self._lost.keys())

    def lost(self) -> tuple[LostGpu, ...]:
        """Return the GPUs that do not answer as GPUs, by index."""
        return tuple(
            LostGpu(index, trouble.code, self.uuid(index), trouble.text)
            for index, trouble in sorted(self._lost.items())
        )

    def denied(self) -> tuple[str, ...]:
        """Return the calls that NVML refuses to the child's user, of any GPU."""
        return tuple(sorted({call for calls in self._denied.values() for call in calls}))

    def processes(self, now_s: float) -> tuple[Process, ...]:
        """Return each process once, with all its GPUs; the same object while it is the same."""
        listed = [
            (self._gpus[index], holders)
            for index, holders in sorted(self._holders.items())
            if now_s - holders.at_s <= HOLDERS_STALE_S and self.uuid(index)
        ]
        if listed != self._listed:
            self._listed, self._processes = listed, _merged(listed)
        return self._processes

    def down(self, reason: str, code: int = 0) -> None:
        """Note that the driver cannot be asked."""
        self.up = False
        self.reason, self.code = reason, code
        self._lost.clear()
        self._holders.clear()

    def started(self) -> None:
        """Note that a new child has been started: it has said nothing yet."""
        self.heartbeat = None
        self._read.clear()
        self._denied.clear()

    def take(self, message: protocol.Message) -> Iterator[Sample]:
        """Fold a message in; yields the samples in it."""
        match message:
            case protocol.Present():
                self.up, self.version = True, message.driver_version
                self.reason, self.code = "", 0
                self._present = message.gpus
                self._gpus = {i: gpu for i, gpu in self._gpus.items() if i < message.gpus}
            case protocol.Found():
                self._find(message)
            case protocol.Trouble():
                self._lost[message.index] = message
                self._holders.pop(message.index, None)
            case protocol.Readings():
                self._read.add(message.index)
                yield from self._values(message)
            case protocol.Holders():
                self._holders[message.index] = message
                yield from self._count(message)
            case protocol.Heartbeat():
                self.heartbeat = message
            case protocol.XidReported():
                uuid = self.uuid(message.index)
                self.xids.append(ReportedXid(uuid, message.code, message.at_s, message.since_s))
            case protocol.Gone():
                self.down(message.text, message.code)
            case protocol.Leaving():
                self.down(LEAVING)

    def _find(self, found: protocol.Found) -> None:
        self._lost.pop(found.index, None)
        self._denied[found.index] = found.denied
        self._gpus[found.index] = Gpu(
            uuid=found.uuid,
            index=found.index,
            name=found.name,
            pci_bus_id=found.pci_bus_id,
            serial=found.serial,
            unsupported=frozenset(found.unsupported),
            mig=found.mig,
        )

    def _values(self, readings: protocol.Readings) -> Iterator[Sample]:
        if uuid := self.uuid(readings.index):
            keys = _keys(readings.names, readings.mig or uuid)
            # By no call of Python for each: a few hundred a second.
            made = zip(keys, repeat(readings.at_s), readings.values, strict=False)
            yield from map(_sample, made)

    def _count(self, holders: protocol.Holders) -> Iterator[Sample]:
        """Yield figures by process key: members of one key are one series, summed."""
        uuid = self.uuid(holders.index)
        if not uuid:
            return
        count = float(len(holders.processes))
        yield Sample(series_key("gpu_processes", uuid), holders.at_s, count)
        sums: dict[tuple[str, str], float] = {}
        for holder in holders.processes:
            for signal, value in (
                ("process_gpu_memory_bytes", holder.memory_bytes),
                ("process_gpu_utilization_ratio", holder.utilization_ratio),
            ):
                if value is not None:
                    series = (signal, holder.process.key)
                    sums[series] = sums.get(series, 0.0) + value
        for (signal, key), total in sums.items():
            yield Sample(series_key(signal, uuid, key), holders.at_s, total)


@lru_cache(maxsize=MOST_SETS)
def _keys(names: str, owner: str) -> tuple[SeriesKey, ...]:
    """Return the keys of a message's values."""
    return tuple(series_key(signal, owner) for signal in names.split())


def _merged(listed: Iterable[tuple[Gpu, protocol.Holders]]) -> tuple[Process, ...]:
    found: dict[int, Process] = {}
    for gpu, holders in listed:
        slices = {(each.gpu_instance, each.compute_instance): each.uuid for each in gpu.mig}
        for holder in holders.processes:
            known = found.get(holder.process.pid, holder.process)
            own = (slices[one] for one in holder.instances if one in slices)
            gpus = (*known.gpus, gpu.uuid)
            found[known.pid] = replace(known, gpus=gpus, slices=(*known.slices, *own))
    return tuple(found.values())
