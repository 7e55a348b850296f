"""When a GPU may be measured, and when that could hurt: pure rules over what is known of it.

An engine that starts compares the memory that is free before and after its profiling run, and ends
when another process has given some back in between; one that needs nearly all of a GPU does not
start beside a context that was made a moment earlier.  So nothing is taken or given back until
every process on the GPU is old, ready and no longer growing, and until so much is free that the
context is not missed.  What is not known is taken for the worse.

The two checks of an engine: vLLM's ``request_memory`` and ``determine_available_memory``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.model import SeriesKey
from gpuward.agent.probe_process import is_worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.model import Gpu, Process
    from gpuward.agent.window import Window

MIB = 1 << 20
COMPUTE_MODE, MIG_MODE = "gpu_compute_mode", "gpu_mig_mode"
CONFIDENTIAL_MODE = "gpu_confidential_mode"
# nvmlComputeMode_t: no process may open the GPU, or one alone.
CLOSED_MODES = {
    2.0: "the GPU's compute mode is PROHIBITED",
    3.0: "the GPU's compute mode is EXCLUSIVE_PROCESS: a probe would keep an engine out",
}
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Limits:
    """What is too young, too full or too busy."""

    young_s: float = 120.0
    growing_s: float = 60.0
    growth_bytes: float = 64 * MIB
    # A context and the probes' buffers: 300 to 600 MiB by what others measured, rounded up.
    footprint_bytes: float = 768 * MIB
    footprint_room: float = 3.0
    first_free_bytes: float = 2_048 * MIB
    free_bytes: float = 1_024 * MIB
    mig_settled_s: float = 120.0
    kv_cache_ratio: float = 0.9
    busy_pace: float = 2.0


@dataclass(frozen=True, slots=True)
class Worker:
    """What is known of a GPU's worker; ``context_s``: when it took its context, if it has one."""

    pid: int = 0
    context_s: float | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """What a worker measures: a card, or with ``slice_uuid`` one MIG device of it."""

    card: Gpu
    slice_uuid: str = ""

    @property
    def uuid(self) -> str:
        return self.slice_uuid or self.card.uuid

    @property
    def memory(self) -> str:
        """Return how the signals of its memory begin."""
        return "gpu_mig_memory" if self.slice_uuid else "gpu_memory"


def device_of(window: Window, uuid: str) -> Device | None:
    """Return the card or the MIG device of that UUID; ``None`` when none is seen."""
    for card in window.gpus:
        if card.uuid == uuid:
            return Device(card)
        if any(slice_.uuid == uuid for slice_ in card.mig):
            return Device(card, uuid)
    return None


def hindrance(
    window: Window,
    uuid: str,
    worker: Worker,
    limits: Limits = Limits(),
    *,
    mps_pids: frozenset[int] = frozenset(),
) -> str:
    """Return why the GPU ``uuid`` must not be measured now; empty when it may be.

    ``mps_pids``: servers of MPS that are not to be disturbed.
    """
    device = device_of(window, uuid)
    if device is None:
        return "no GPU of that UUID is seen on this node"
    for reason in (
        *_driver(window),
        *_modes(window, device, limits),
        *_sharing(window, device, mps_pids),
        *_starting(window, device, worker, limits),
        *_memory(window, device, worker, limits),
    ):
        return reason
    return ""


def pace(window: Window, uuid: str, limits: Limits = Limits()) -> float:
    """Return by how much the time between two bursts is stretched: 1, or more under load."""
    device = device_of(window, uuid)
    if device is None:
        return 1.0
    services = {process.service for process in _on(window, device)} - {""}
    waits = any(
        _value_of(window, key)
        for key in window.keys("replica_requests_waiting")
        if key.service in services
    )
    is_full = any(
        (_value_of(window, key) or 0.0) > limits.kv_cache_ratio
        for key in window.keys("process_kv_cache_usage_ratio")
        if key.gpu == device.card.uuid
    )
    return limits.busy_pace if waits or is_full else 1.0


def _driver(window: Window) -> Iterator[str]:
    if window.driver.maintenance is not None:
        yield f"maintenance: {window.driver.maintenance.reason or 'of the driver'}"
    if not window.driver.up:
        yield "the driver does not answer: a probe would hang in it"


def _modes(window: Window, device: Device, limits: Limits) -> Iterator[str]:
    card = device.card
    mode = _value(window, COMPUTE_MODE, card.uuid)
    if mode is None and COMPUTE_MODE not in card.unsupported:
        yield "the GPU's compute mode is not known yet"
    elif mode in CLOSED_MODES:
        yield CLOSED_MODES[mode]
    confidential = _value(window, CONFIDENTIAL_MODE, card.uuid)
    if confidential is None and CONFIDENTIAL_MODE not in card.unsupported:
        yield "whether the GPU works in confidential mode is not known yet"
    elif confidential:
        yield "the GPU works in confidential mode: a probe would measure its encryption"
    since_s = window.now_s - limits.mig_settled_s
    if len(set(window.figures(SeriesKey(MIG_MODE, gpu=card.uuid), since_s))) > 1:
        yield "MIG was switched a moment ago"
    is_cut = bool(card.mig) or _value(window, MIG_MODE, card.uuid) == 1.0
    if is_cut and not device.slice_uuid:
        yield "the GPU is cut into MIG devices: enable gpuward-probe@ with the UUID of one"
    if device.slice_uuid:
        total = SeriesKey("gpu_mig_memory_total_bytes", gpu=device.uuid)
        if not _is_known_since(window, total, since_s):
            yield "the MIG device was made a moment ago, or first seen then"


def _sharing(window: Window, device: Device, mps_pids: frozenset[int]) -> Iterator[str]:
    if any(process.pid in mps_pids for process in _on(window, device)):
        yield "the GPU is shared by MPS: set [probes] beside_mps to measure it nevertheless"


def _starting(window: Window, device: Device, worker: Worker, limits: Limits) -> Iterator[str]:
    others = _others(window, device, worker)
    for process in others:
        age_s = _age_s(window, device, process)
        if age_s < limits.young_s:
            yield f"{process.key} is {max(0.0, age_s):.0f} s old"
    services = {process.service for process in others}
    # An engine that does not listen yet cannot be found among the processes of any GPU.
    placed = {process.service for process in window.processes}
    for key in window.keys("replica_ready"):
        if _value_of(window, key):
            continue
        if key.service in services:
            yield f"{key.endpoint} of {key.service} is not ready"
        if worker.context_s is None and key.service not in placed:
            yield f"{key.endpoint} of {key.service} may be starting here"


def _memory(window: Window, device: Device, worker: Worker, limits: Limits) -> Iterator[str]:
    free = _value(window, f"{device.memory}_free_bytes", device.uuid)
    if free is None:
        yield "how much of its memory is free is not known"
        return
    needed = limits.free_bytes
    if worker.context_s is None:
        needed = max(limits.first_free_bytes, limits.footprint_room * limits.footprint_bytes)
    if free < needed:
        yield f"{free / MIB:.0f} MiB are free, a probe needs {needed / MIB:.0f}"
    used = SeriesKey(f"{device.memory}_used_bytes", gpu=device.uuid)
    since_s = window.now_s - limits.growing_s
    if worker.context_s is None and not _is_known_since(window, used, since_s):
        yield f"its memory has not been watched for {limits.growing_s:g} s yet"
    # What the worker itself took is no growth of an engine.
    figures = window.figures(used, max(since_s, worker.context_s or 0.0))
    if not figures:
        return
    # Before it takes any a fall counts as well: what has ended is often started again.
    highest = max(figures) if worker.context_s is None else figures[-1]
    moved = highest - min(figures)
    if moved >= limits.growth_bytes:
        yield f"its memory in use moved by {moved / MIB:.0f} MiB within a minute"


def _on(window: Window, device: Device) -> list[Process]:
    return [process for process in window.processes if device.card.uuid in process.gpus]


def _others(window: Window, device: Device, worker: Worker) -> list[Process]:
    """Return the processes on the card that are no worker of ours."""
    return [
        process
        for process in _on(window, device)
        if process.pid != worker.pid and not is_worker(process)
    ]


def _age_s(window: Window, device: Device, process: Process) -> float:
    if process.start_ticks:
        return window.now_s - process.start_ticks / TICKS_PER_S
    # Of another PID namespace: since when it is seen to hold memory is all that is known.
    key = SeriesKey("process_gpu_memory_bytes", gpu=device.card.uuid, process=process.key)
    seen = window.values(key, 0.0)
    return window.now_s - seen[0].at_s if seen else 0.0


def _is_known_since(window: Window, key: SeriesKey, since_s: float) -> bool:
    seen = window.values(key, 0.0)
    return bool(seen) and seen[0].at_s <= since_s


def _value(window: Window, signal: str, gpu: str) -> float | None:
    return _value_of(window, SeriesKey(signal, gpu=gpu))


def _value_of(window: Window, key: SeriesKey) -> float | None:
    sample = window.latest(key)
    return None if sample is None else sample.value
