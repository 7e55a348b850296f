"""A healthy, busy node over days: its GPUs, services, processes, taps, and what people do to it.

``Node.second`` is what samplers would say in one second, at the pace of their lanes: gauges every
second, process lists every five, what is slow every thirty.  A program's own XIDs come in the
storms in which they are logged; the driver is reloaded now and then, after the engines were told
to stop; a tap comes with an engine or does not.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from null_gpu import Card
from null_load import Service

from gpuward.agent.maintenance import Maintenance
from gpuward.agent.mig_device import MigDevice
from gpuward.agent.model import Batch, Driver, Event, Process, Sample, SeriesKey
from gpuward.agent.service_totals import ServiceTotals
from gpuward.simulator import profile

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = 86_400
GIB = 1 << 30
RELOADS_A_DAY = 0.5
RELOAD_S = (40, 180)
MAINTENANCE_S = 600.0
CRASHES_A_DAY = 0.5
# A page fault of a program takes its channels with it: one line of cause, several of cleaning up.
STORMS = ((31, 45, 45, 45), (13, 43), (31, 43, 45), (13, 13, 45))
CONTEXT_BYTES = float(GIB)
SHARED = 3
PROFILES = ("h100-sxm-x8", "l40s-x4", "h100-mig-x1", "rtx4090-x1")


@dataclass(slots=True)
class Node:
    """Of ``kind``, one of the simulator's profiles; the same for the same seed."""

    kind: str
    seed: int
    random: random.Random = field(init=False)
    cards: list[Card] = field(init=False)
    services: list[Service] = field(init=False)
    down_until: int = 0
    maintenance: Maintenance | None = None
    reloads: int = 0
    crashes: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(f"null/{self.kind}/{self.seed}")
        machine = profile.load(self.kind)
        self.cards = [
            Card({**machine.gpu, **values}, index, self.random)
            for index, values in enumerate(machine.gpus)
        ]
        for place, values in enumerate(machine.mig_devices):
            card = self.cards[int(values["gpu"])]
            slice_ = MigDevice(str(values["uuid"]), place, 0)
            card.gpu = replace(card.gpu, mig=(*card.gpu.mig, slice_))
        wide = self.seed % 4 if len(self.cards) > 1 else 0
        everything = tuple(range(len(self.cards)))
        half = len(self.cards) // 2
        groups = {
            # One engine on all GPUs, one on each half, one on each: of services of their own, or
            # of one service, whose balancer gives each another load.
            0: [everything],
            1: [everything[:half], everything[half:]],
            2: [(index,) for index in everything],
            3: [(index,) for index in everything],
        }[wide]
        self.services = [
            Service(f"service-{0 if wide == SHARED else place}", f"vllm-{place}", gpus, self.random)
            for place, gpus in enumerate(groups)
        ]

    def second(self, second: int) -> Batch:
        """Return what is sampled in ``second``, counted from 1."""
        now_s = float(second)
        if self.random.random() < RELOADS_A_DAY / DAY and second > self.down_until:
            self._reload(second)
        for service in self.services:
            service.step(second)
        if second < self.down_until:
            absent = Driver(
                up=False, reason="the driver is not loaded", maintenance=self.maintenance
            )
            return Batch(driver=absent)
        if self.maintenance is not None and now_s >= self.maintenance.until_s:
            self.maintenance = None
        processes = tuple(self._processes(second)) if second % 5 == 0 or second == 1 else None
        return Batch(
            samples=tuple(self._samples(second)),
            events=tuple(self._crash(now_s)),
            gpus=tuple(card.gpu for card in self.cards),
            processes=processes,
            services=tuple(self._totals(second)),
            driver=Driver(up=True, version="580.95.05", maintenance=self.maintenance),
        )

    def _reload(self, second: int) -> None:
        self.reloads += 1
        down_s = self.random.randrange(*RELOAD_S)
        self.down_until = second + down_s
        # Somebody said so before, with `gpuward agent release`, or the driver did as it went.
        self.maintenance = Maintenance(float(second), second + MAINTENANCE_S, "driver reload")
        for service in self.services:
            service.restart(second, down_s + self.random.randrange(5, 30))
        for card in self.cards:
            card.reload()

    def _samples(self, second: int) -> Iterator[Sample]:
        now_s = float(second)
        noon = 0.5 - 0.5 * math.cos(2 * math.pi * (second % DAY) / DAY)
        yield Sample(SeriesKey("driver_up"), now_s, 1.0)
        yield Sample(SeriesKey("driver_call_wait_seconds"), now_s, 0.0)
        yield Sample(SeriesKey("node_gpus_present"), now_s, float(len(self.cards)))
        yield Sample(SeriesKey("node_gpus_expected"), now_s, float(len(self.cards)))
        for service in self.services:
            held = self._held(service, second)
            for index in service.gpus:
                card = self.cards[index]
                load = service.load * (0.97 + 0.06 * self.random.random())
                yield from card.fast(now_s, load, held, noon)
                # Lanes of GPUs are read at different seconds.
                if second % 30 == index or second == 1:
                    yield from card.slow(now_s)
            if second % 5 == 0:
                yield from self._of_processes(service, second, held)
        yield from self._of_services(second)

    def _held(self, service: Service, second: int) -> float:
        """Return the bytes that the engine of ``service`` holds on each of its GPUs."""
        if not service.is_there(second):
            return 0.0
        total = self.cards[service.gpus[0]].facts["memory_total_bytes"]
        return float(CONTEXT_BYTES + (0.88 * total - CONTEXT_BYTES) * service.loaded(second))

    def _of_services(self, second: int) -> Iterator[Sample]:
        """Yield what each engine says of itself, and the sums over those of each service."""
        now_s = float(second)
        sums: dict[SeriesKey, float] = {}
        for service in self.services:
            for figure, value in _figures(service) if service.is_up(second) else ():
                own = SeriesKey(f"replica_{figure}", service=service.name, endpoint=service.unit)
                yield Sample(own, now_s, value)
                key = SeriesKey(f"service_{figure}", service=service.name)
                sums[key] = sums.get(key, 0.0) + value
        for key, value in sums.items():
            yield Sample(key, now_s, value)

    def _of_processes(self, service: Service, second: int, held: float) -> Iterator[Sample]:
        if not service.is_there(second):
            return
        now_s, name = float(second), _key(service)
        for index in service.gpus:
            gpu = self.cards[index].gpu.uuid
            figures = {"process_gpu_memory_bytes": held}
            if service.is_up(second):
                usage = min(0.97, 0.1 + 0.7 * service.load + 0.002 * service.waiting)
                figures["process_kv_cache_usage_ratio"] = usage
            if service.is_tapped:
                figures |= self._tap(held, service)
            for signal, value in figures.items():
                yield Sample(SeriesKey(signal, gpu=gpu, process=name), now_s, value)

    def _tap(self, held: float, service: Service) -> dict[str, float]:
        reserved = held - CONTEXT_BYTES
        free = 0.02 * reserved * (1.0 - 0.5 * service.load)
        card = self.cards[service.gpus[0]]
        return {
            "process_memory_reserved_bytes": reserved,
            "process_memory_allocated_bytes": reserved - free,
            "process_memory_active_bytes": reserved - free,
            "process_memory_requested_bytes": 0.999 * (reserved - free),
            "process_memory_stranded_bytes": 0.1 * free,
            "process_memory_releasable_bytes": 0.9 * free,
            "process_memory_headroom_bytes": card.facts["memory_total_bytes"] - held + 0.9 * free,
            "process_memory_headroom_fast_bytes": 0.5 * free,
            "process_memory_headroom_ratio": 300.0,
            "process_memory_mean_large_request_bytes": 32.0 * (1 << 20),
            "process_allocation_retries_total": 0.0,
            "process_out_of_memory_total": 0.0,
            "process_memory_expandable_segments": 0.0,
        }

    def _processes(self, second: int) -> Iterator[Process]:
        for service in self.services:
            if not service.is_there(second):
                continue
            yield Process(
                key=_key(service),
                pid=1_000 + 100 * service.number + service.gpus[0],
                start_ticks=service.number,
                gpus=tuple(self.cards[index].gpu.uuid for index in service.gpus),
                unit=_key(service),
                engine="vllm",
                model="meta-llama/Llama-3.1-8B-Instruct",
                service=service.name,
                endpoint=service.unit,
                tapped=service.is_tapped,
            )

    def _totals(self, second: int) -> Iterator[ServiceTotals]:
        for service in self.services:
            if service.is_there(second):
                yield ServiceTotals(
                    service=service.name,
                    instance=service.unit,
                    started_wall_s=float(service.down_until),
                    observed_wall_s=float(second),
                    requests=int(service.requests),
                    failed=0,
                    timed_out=0,
                    over_objective=int(service.late),
                    tokens=int(service.tokens),
                    ready=service.is_up(second),
                    waiting=int(service.waiting),
                    running=int(service.running),
                )

    def _crash(self, now_s: float) -> Iterator[Event]:
        """Yield the XIDs of a program that fell over its own feet; its supervisor restarts it."""
        if self.random.random() >= CRASHES_A_DAY * len(self.cards) / DAY:
            return
        self.crashes += 1
        service = self.random.choice(self.services)
        card = self.cards[self.random.choice(service.gpus)]
        for place, code in enumerate(self.random.choice(STORMS)):
            yield Event(
                "gpu.xid",
                now_s,
                f"null-{now_s}-{place}",
                code=code,
                gpu=card.gpu.uuid,
                process=_key(service),
                text=f"NVRM: Xid (PCI:{card.gpu.pci_bus_id}): {code}",
            )
        service.restart(int(now_s))


def _figures(service: Service) -> Iterator[tuple[str, float]]:
    yield "requests_total", float(int(service.requests))
    yield "requests_failed_total", 0.0
    yield "requests_over_objective_total", float(int(service.late))
    yield "tokens_total", float(int(service.tokens))
    yield "requests_waiting", service.shown_waiting
    yield "requests_running", service.running


def _key(service: Service) -> str:
    return f"{service.unit}.service"
