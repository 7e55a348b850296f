"""A node of the benchmark of diagnosis, second by second: what its samplers would say.

Two GPUs with an engine each, replicas of one service behind a gateway; three upstreams that the
service calls; the host under them.  Healthy but for what the plan does to it.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from diagnosis_around import Surroundings
from diagnosis_card import StrainedCard
from diagnosis_replica import SERVICE, Replica

from gpuward.agent.lost_gpu import LostGpu
from gpuward.agent.model import Batch, Driver, Event, Process, Sample, SeriesKey
from gpuward.simulator import profile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diagnosis_plan import Plan
    from diagnosis_strain import NodeStrain

KIND = "h100-sxm-x8"
VERSION = "580.95.05"
FOREIGN, MONITOR = "notebook.service", "monitoring.service"
MONITOR_BYTES = 6e8
ASKED_EVERY_S = 15
GPU_IS_LOST = 15
PROBED_EVERY_S, COPIED_EVERY_S, LISTED_EVERY_S = 10, 60, 5
TIMEOUT_S = 10.0
# What each request before it in the queue costs a request of our own, about.
WAITING_COSTS_S = 0.4


class Node:
    """``second`` is what is sampled in one second, counted from 1; seconds go on and on."""

    def __init__(self, plan: Plan, replicas: int = 2) -> None:
        self.plan = plan
        self.random = random.Random(f"node/{plan.name}/{plan.severity}/{plan.seed}")
        machine = profile.load(KIND)
        self.cards = [
            StrainedCard({**machine.gpu, **values}, index, self.random)
            for index, values in enumerate(machine.gpus[:replicas])
        ]
        for card in self.cards:
            card.facts["power_limit_enforced_milliwatts"] *= plan.habits.power_limit
        self.replicas = [Replica(plan, index, card) for index, card in enumerate(self.cards)]
        self.strain: NodeStrain = plan.strain(0.0)
        self._around = Surroundings(plan, self.replicas, self.random)
        self._probes: dict[str, list[float]] = {}

    def second(self, second: int) -> Batch:
        now_s = float(second)
        strain = self.strain = self.plan.strain(now_s)
        for replica in self.replicas:
            replica.card.strain = strain.gpu(replica.index)
            replica.advance(now_s)
        return Batch(
            samples=tuple(self._samples(second)),
            events=tuple(self._lines(second)),
            gpus=tuple(card.gpu for card in self.cards),
            processes=self._processes(second),
            services=tuple(one.totals(now_s, now_s) for one in self.replicas if not one.is_gone),
            driver=self._driver(now_s),
        )

    @property
    def _hangs(self) -> bool:
        return self.strain.driver_waits_s > 0

    def _samples(self, second: int) -> Iterator[Sample]:
        now_s, hangs = float(second), self._hangs
        there = [one for one in self.replicas if not one.card.strain.is_lost]
        yield from self._of_node(now_s, len(there))
        for replica in there:
            if not hangs:
                yield from self._of_gpu(replica, second)
        for replica in self.replicas:
            yield from replica.page(now_s)
            lost = replica.card.strain.is_lost
            if second % LISTED_EVERY_S == 0 and not (replica.is_gone or hangs or lost):
                yield from replica.of_process(now_s, self._free(replica))
        yield from self._of_service(second)
        yield from self._around.second(second, self.strain)
        yield from self._asked(second)

    def _of_node(self, now_s: float, present: int) -> Iterator[Sample]:
        chance, strain = self.random, self.strain
        pressure = min(0.99, strain.cpu_pressure + chance.uniform(0.005, 0.06))
        figures = {
            "driver_up": 1.0,
            "driver_call_wait_seconds": strain.driver_waits_s,
            "node_gpus_expected": float(len(self.cards)),
            "node_kmsg_readable": 1.0,
            "node_cpu_pressure_ratio": pressure,
            "node_memory_pressure_ratio": 0.0,
            "node_io_pressure_ratio": chance.uniform(0.0, 0.02),
        }
        if not self._hangs:
            figures["node_gpus_present"] = float(present)
        if now_s % PROBED_EVERY_S == 0:
            figures |= {
                "probe_launch_seconds": 1.2e-5 * strain.launch * chance.uniform(0.9, 1.3),
                "probe_cpu_stolen_ratio": min(0.95, strain.stolen + chance.uniform(0.0, 0.01)),
                "probe_cpu_longest_gap_seconds": chance.uniform(4e-5, 2e-4) + 0.02 * strain.stolen,
                "probe_cpu_copy_bytes_per_second": 9e9 * chance.uniform(0.95, 1.0),
                "probe_cpu_product_seconds": 2.4e-3
                * chance.uniform(0.97, 1.1)
                * strain.launch**0.3,
            }
        for signal, value in figures.items():
            yield Sample(SeriesKey(signal), now_s, value)
        for card in self.cards:
            is_there = not self.strain.gpu(card.index).is_lost
            yield Sample(SeriesKey("gpu_on_pci_bus", gpu=card.gpu.uuid), now_s, float(is_there))

    def _of_gpu(self, replica: Replica, second: int) -> Iterator[Sample]:
        card, now_s, load = replica.card, float(second), replica.load
        foreign = card.strain.foreign_share
        shown = min(1.0, load + foreign)
        used = card.facts["memory_total_bytes"] - self._free(replica)
        yield from card.fast(now_s, shown, used, 0.5)
        # Lanes of GPUs are read at different seconds.
        if second % 30 == card.index or second == 1:
            yield from card.slow(now_s)
        if self.plan.has_probes:
            if second % PROBED_EVERY_S == 2 * card.index:
                yield from card.probed(now_s, load, self.strain.launch)
            if second % COPIED_EVERY_S == 7 * card.index:
                yield from card.copied(now_s, load)
        if second % LISTED_EVERY_S == 0:
            yield from self._of_foreigners(card, now_s)

    def _foreigners(self, card: StrainedCard) -> Iterator[tuple[str, float, float]]:
        """Yield name, memory and share of the time of each process that is no engine."""
        strain = card.strain
        if self.plan.habits.has_monitor:
            yield MONITOR, MONITOR_BYTES, 0.01
        if strain.foreign_bytes:
            share = strain.foreign_share * self.random.uniform(0.8, 1.2)
            yield FOREIGN, strain.foreign_bytes, min(0.99, share)

    def _of_foreigners(self, card: StrainedCard, now_s: float) -> Iterator[Sample]:
        there = list(self._foreigners(card))
        yield Sample(SeriesKey("gpu_processes", gpu=card.gpu.uuid), now_s, 1.0 + len(there))
        for name, held, share in there:
            for signal, value in (
                ("process_gpu_memory_bytes", held),
                ("process_gpu_utilization_ratio", round(share, 2)),
            ):
                yield Sample(SeriesKey(signal, gpu=card.gpu.uuid, process=name), now_s, value)

    def _free(self, replica: Replica) -> float:
        held = 0.0 if replica.is_gone else replica.held_bytes
        total = float(replica.card.facts["memory_total_bytes"])
        foreign = sum(size for _, size, _ in self._foreigners(replica.card))
        return max(0.0, total - held - foreign)

    def _of_service(self, second: int) -> Iterator[Sample]:
        """Yield the sums over the replicas that show a page."""
        there = [one.engine.metrics for one in self.replicas if one.has_page]
        if not there:
            return
        for signal, value in (
            ("service_requests_waiting", sum(one.waiting for one in there)),
            ("service_requests_running", sum(one.running for one in there)),
        ):
            yield Sample(SeriesKey(signal, service=SERVICE), float(second), float(value))

    def _asked(self, second: int) -> Iterator[Sample]:
        """Yield what requests of our own meet at each replica."""
        for replica in self.replicas:
            if second % ASKED_EVERY_S != 3 + replica.index:
                continue
            counts = self._probes.setdefault(replica.endpoint, [0.0, 0.0, 0.0, 0.0])
            under, is_slow = replica.engine.conditions, replica.engine.conditions.hangs
            fails = self.random.random() < under.failing_share
            counts[0] += 1
            counts[1] += fails and not (is_slow or replica.is_gone)
            counts[2] += is_slow and not replica.is_gone
            counts[3] += replica.is_gone
            is_up = not (fails or is_slow or replica.is_gone)
            figures = {
                "endpoint_up": float(is_up),
                "endpoint_gateway": 0.0,
                "endpoint_probes_total": counts[0],
                "endpoint_probes_failed_total": counts[1],
                "endpoint_probes_timed_out_total": counts[2],
                "endpoint_probes_unreachable_total": counts[3],
            }
            if is_up:
                metrics = replica.engine.metrics
                waits_s = WAITING_COSTS_S * metrics.waiting if metrics.waiting > 1 else 0.0
                took_s = 0.02 + 0.001 * metrics.running * under.slower + waits_s
                figures["endpoint_probe_seconds"] = min(TIMEOUT_S, took_s)
                figures["endpoint_first_token_seconds"] = min(TIMEOUT_S, took_s)
                figures["endpoint_status"] = 200.0
            elif fails:
                figures["endpoint_status"] = 500.0
            for signal, value in figures.items():
                yield Sample(replica.key(signal), float(second), value)

    def _processes(self, second: int) -> tuple[Process, ...] | None:
        if self._hangs or (second % LISTED_EVERY_S and second != 1):
            return None
        found = [one.described() for one in self.replicas if not one.is_gone]
        found += [
            Process(name, 9_000 + 10 * place + card.index, 7, gpus=(card.gpu.uuid,), unit=name)
            for card in self.cards
            for place, (name, _, _) in enumerate(self._foreigners(card))
        ]
        return tuple(found)

    def _lines(self, second: int) -> Iterator[Event]:
        for line in self.plan.lines:
            at_s = self.plan.onset_s + line.after_s
            if second - 1 < at_s <= second:
                gpu = self.cards[line.gpu].gpu
                yield Event(
                    "gpu.xid",
                    at_s,
                    f"diagnosis-{at_s}-{line.code}",
                    code=line.code,
                    gpu=gpu.uuid,
                    text=f"NVRM: Xid (PCI:{gpu.pci_bus_id}): {line.code}",
                )

    def _driver(self, now_s: float) -> Driver:
        strain = self.strain
        if self._hangs:
            return Driver(
                up=True,
                version=VERSION,
                waiting_s=strain.driver_waits_s,
                waiting_gpu=self.cards[self.plan.victim].gpu.uuid,
                waiting_call="nvmlDeviceGetTemperature",
            )
        lost = tuple(
            LostGpu(card.index, GPU_IS_LOST, card.gpu.uuid, "GPU is lost")
            for card in self.cards
            if strain.gpu(card.index).is_lost
        )
        return Driver(up=True, version=VERSION, lost=lost)
