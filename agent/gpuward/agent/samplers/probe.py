"""Ask the probe workers for their figures, on a schedule, where and when that harms nobody.

A worker on a GPU holds a CUDA context of some hundred MiB and takes moments of the GPU's time.
Before each question the rules of ``probe_rules`` are asked; what they say is shown as the health of
this sampler.  The GPUs below one PCIe root port are measured one at a time, since they share a
link, and those elsewhere do not wait for one that hangs.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

import msgspec

from gpuward.agent.model import Batch, ComponentHealth, Result
from gpuward.agent.probe_figures import sample_of, samples_of
from gpuward.agent.probe_link import Reply, ask
from gpuward.agent.probe_place import mps_servers, root_port
from gpuward.agent.probe_rules import Worker, device_of, hindrance, pace
from gpuward.agent.probe_schedule import BURST_S, LONGEST_BURST_S, PERIODS_S, GpuTime, Schedule
from gpuward.agent.probe_workers import CPU, Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gpuward.agent.model import Sample
    from gpuward.agent.window import Window
    from gpuward.daemon.clock import Clock

Mode = Literal["auto", "cpu", "off"]

LATENCY = "latency"
STALLED = "stalled"
REFUSED = "refused"
NO_WORKER = "no worker"
# Longer than a probe's own deadline (2 s), shorter than the limit of a turn (5 s).
ANSWER_S = 3.0
# A probe that is under way, and the end of a CUDA context.
LET_GO_S = 8.0
# A worker that was started just now.
SOON_S = 1.0


@dataclass(slots=True)
class _Device:
    """A GPU, a slice of one or the processor, and what is known of its worker."""

    schedule: Schedule
    gpu_time: GpuTime = field(default_factory=GpuTime)
    # None until it has said whether it holds a context.
    worker: Worker | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    suspended: str = ""
    trouble: str = ""


class ProbeSampler:
    """Turns the workers' figures into samples."""

    name = "probe"
    period_s = 1.0

    def __init__(
        self,
        workers: Workers,
        window: Callable[[float], Window],
        *,
        proc_root: Path,
        pci_devices: Path,
        mode: Mode = "auto",
        beside_mps: bool = False,
        is_released: Callable[[], bool] = lambda: False,
    ) -> None:
        """``is_released``: nobody may open the driver now."""
        self._workers = workers
        self._window = window
        self._proc_root = proc_root
        self._pci_devices = pci_devices
        self._mode = mode
        self._beside_mps = beside_mps
        self._is_released = is_released
        # GPUs come and go, but there are never many of them.
        self._devices: dict[str, _Device] = {}
        self._ports: dict[str, str] = {}

    @property
    def health(self) -> ComponentHealth:
        """Unknown while a worker does not measure; a GPU that must not be measured is no fault."""
        troubled = any(device.trouble for device in self._devices.values())
        reasons = "; ".join(
            f"{uuid}: {device.trouble or f'not now: {device.suspended}'}"
            for uuid, device in sorted(self._devices.items())
            if device.trouble or device.suspended
        )
        return ComponentHealth(self.name, Result.UNKNOWN if troubled else Result.OK, reasons)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._workers.stop()

    async def sample(self, now_s: float) -> Batch:
        """Return what was measured in this turn."""
        window = self._window(now_s)
        present = self._present(window)
        for uuid in self._devices.keys() - present:
            self._devices[uuid].trouble = self._devices[uuid].suspended = ""
        due = list(self._due(present, now_s))
        if not due:
            return Batch()
        async with asyncio.TaskGroup() as group:
            turns = [
                group.create_task(self._turn(uuid, probe, window, now_s)) for uuid, probe in due
            ]
        return Batch(samples=tuple(sample for turn in turns for sample in turn.result()))

    async def measure(self, uuid: str, probe: str, clock: Clock) -> Reply:
        """Return what the worker of ``uuid`` measures for a person, or why it must not now."""
        # The name is a caller's: nothing is looked for or kept by one that is no GPU's.
        if uuid != CPU and device_of(self._window(clock.mono_s()), uuid) is None:
            return Reply(error=REFUSED, reason="no GPU of that UUID is seen on this node")
        device = self._device(uuid)
        async with device.turn:
            now_s = clock.mono_s()
            if reason := await self._refusal(uuid, now_s):
                return Reply(error=REFUSED, reason=reason)
            return await self._measure(uuid, probe, now_s)

    async def let_go(self) -> tuple[str, ...]:
        """Ask every worker on a GPU to close it; returns the GPUs of those that did not."""
        uuids = self._workers.listening()
        async with asyncio.TaskGroup() as group:
            asked = [(uuid, group.create_task(self._has_let_go(uuid))) for uuid in uuids]
        return tuple(uuid for uuid, task in asked if not task.result())

    async def _has_let_go(self, uuid: str) -> bool:
        self._device(uuid).worker = None
        try:
            async with asyncio.timeout(LET_GO_S):
                answer = await ask(self._workers.path(uuid), {"release": True})
        except (FileNotFoundError, ConnectionRefusedError):
            # A worker that is gone holds nothing.
            return True
        except (OSError, msgspec.MsgspecError):
            return False
        return not answer.reply.error

    def _present(self, window: Window) -> dict[str, str]:
        """Return the devices that have a worker or get one, each with the PCIe port it is below."""
        if self._mode == "off":
            return {}
        present = {CPU: CPU}
        if self._mode == "cpu" or self._is_released():
            return present
        listening = set(self._workers.listening())
        for card in window.gpus:
            slices = [each.uuid for each in card.mig]
            known = [u for u in (card.uuid, *slices) if u in listening]
            started = [u for u in slices or [card.uuid] if self._workers.starts(u)]
            if known or started:
                present |= dict.fromkeys((*known, *started), self._port(card.pci_bus_id))
        return present

    def _port(self, bus_id: str) -> str:
        # Asked for every second, and a card is not plugged in elsewhere while it is there.
        if bus_id not in self._ports:
            self._ports[bus_id] = root_port(self._pci_devices, bus_id)
        return self._ports[bus_id]

    def _device(self, uuid: str) -> _Device:
        if uuid not in self._devices:
            probes = (LATENCY,) if uuid == CPU else tuple(PERIODS_S)
            # Spreads load, keeps no secret.
            self._devices[uuid] = _Device(Schedule(random.Random(uuid), probes))  # noqa: S311
        return self._devices[uuid]

    def _due(self, present: dict[str, str], now_s: float) -> Iterator[tuple[str, str]]:
        """Yield the device below each port that has waited longest, and its probe."""
        first: dict[str, tuple[float, str, str]] = {}
        for uuid, port in present.items():
            device = self._device(uuid)
            due = device.schedule.due(now_s)
            # While a person's question is under way, the rest waits for the next turn.
            if due is not None and not device.turn.locked():
                at_s, probe = due
                first[port] = min(first.get(port, (at_s, uuid, probe)), (at_s, uuid, probe))
        yield from ((uuid, probe) for _, uuid, probe in first.values())

    async def _turn(
        self, uuid: str, probe: str, window: Window, now_s: float
    ) -> tuple[Sample, ...]:
        device = self._devices[uuid]
        if uuid == CPU:
            return tuple(await self._burst(uuid, probe, 1.0, now_s))
        if await self._complaint(uuid, now_s):
            self._try_again(uuid, now_s)
            return ()
        device.suspended = self._hindrance(uuid, window, now_s)
        samples = [sample_of("gpu_probe_suspended", uuid, now_s, float(bool(device.suspended)))]
        if device.suspended:
            device.schedule.put_off(now_s)
            return tuple(samples)
        samples += await self._burst(uuid, probe, pace(window, uuid), now_s)
        busy_s = device.gpu_time.total_s
        return (*samples, sample_of("gpu_probe_busy_seconds_total", uuid, now_s, busy_s))

    async def _refusal(self, uuid: str, now_s: float) -> str:
        if uuid == CPU:
            return ""
        if self._mode == "cpu":
            return "[probes] mode is cpu: GPUs are not measured on this node"
        if not self._workers.path(uuid).exists():
            return f"no worker: gpuward-probe@{uuid} is not enabled"
        return await self._complaint(uuid, now_s) or self._hindrance(
            uuid, self._window(now_s), now_s
        )

    async def _complaint(self, uuid: str, now_s: float) -> str:
        """Return why the worker does not even say whether it holds a context."""
        if self._device(uuid).worker is None:
            await self._ask(uuid, {"status": True}, now_s)
        return self._device(uuid).trouble

    def _hindrance(self, uuid: str, window: Window, now_s: float) -> str:
        device = self._device(uuid)
        if self._is_released():
            return "the driver is being changed: nobody may open it now"
        if device.gpu_time.left_s(now_s) < BURST_S:
            return "probes have taken 60 ms of the GPU within a minute"
        mps_pids = frozenset[int]() if self._beside_mps else mps_servers(window, self._proc_root)
        return hindrance(window, uuid, device.worker or Worker(), mps_pids=mps_pids)

    def _try_again(self, uuid: str, now_s: float) -> None:
        device = self._devices[uuid]
        if device.trouble == NO_WORKER and self._workers.starts(uuid):
            device.schedule.put_off(now_s, SOON_S)
        else:
            device.schedule.failed(now_s)

    async def _burst(self, uuid: str, probe: str, stretch: float, now_s: float) -> list[Sample]:
        device = self._devices[uuid]
        async with device.turn:
            reply = await self._measure(uuid, probe, now_s)
        if reply.error:
            self._try_again(uuid, now_s)
        else:
            device.schedule.ran(probe, now_s, stretch)
        return list(samples_of(uuid, reply.figures, now_s))

    async def _measure(self, uuid: str, probe: str, now_s: float) -> Reply:
        gpu_time = self._devices[uuid].gpu_time
        budget_s = min(LONGEST_BURST_S, gpu_time.left_s(now_s))
        reply = await self._ask(uuid, {"probe": probe, "budget_s": budget_s}, now_s)
        gpu_time.spend(reply.figures.get("busy_seconds", 0.0), now_s)
        return reply

    async def _ask(self, uuid: str, request: dict[str, object], now_s: float) -> Reply:
        device = self._device(uuid)
        before, device.worker = device.worker, None
        reply = Reply(error=NO_WORKER)
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await ask(self._workers.path(uuid), request)
        except TimeoutError:
            reply = Reply(error=STALLED, reason=f"no answer within {ANSWER_S:g} s")
        except (FileNotFoundError, ConnectionError):
            if self._workers.starts(uuid):
                self._workers.start(uuid, now_s)
        except (OSError, msgspec.MsgspecError) as error:
            reply = Reply(error="unreadable", reason=str(error))
        else:
            reply = answer.reply
            self._workers.answered(uuid)
            device.worker = _worker(answer.pid, reply, before, now_s)
        device.trouble = reply.complaint
        return reply


def _worker(pid: int, reply: Reply, before: Worker | None, now_s: float) -> Worker:
    if not reply.holds_context:
        return Worker(pid)
    if before is None:
        # It had its context before we came.
        return Worker(pid, 0.0)
    return Worker(pid, now_s if before.context_s is None else before.context_s)
