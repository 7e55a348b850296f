"""One engine of the benchmark's node, and what its page, its process and its allocator tell.

The page is not rendered: its counters are told in the agent's words directly, which a test of the
simulator holds equal to what the agent reads off the page.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from diagnosis_fluid import FluidEngine

from gpuward.agent.model import Process, Sample, SeriesKey
from gpuward.agent.service_totals import ServiceTotals
from gpuward.simulator.llm.canonical import signals
from gpuward.simulator.llm.engine import LlmEngine
from gpuward.simulator.llm.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diagnosis_card import StrainedCard
    from diagnosis_plan import Plan

SERVICE = "chat"
OBJECTIVE_S = 10.0
GIB = float(1 << 30)
CONTEXT_BYTES = GIB
# Of the GPU's memory, as --gpu-memory-utilization would have it, a little less.
TAKEN = 0.88
LARGE_REQUEST_BYTES = 0.4 * GIB


class Replica:
    """Engine ``index`` of the service, on the GPU of ``card``."""

    def __init__(self, plan: Plan, index: int, card: StrainedCard) -> None:
        self.plan = plan
        self.index = index
        self.card = card
        self.endpoint = f"127.0.0.1:{8_000 + index}"
        self.process = f"vllm-{index}.service"
        seed = random.Random(f"{plan.name}/{plan.severity}/{plan.seed}/{index}").getrandbits(30)
        traffic = Traffic(plan.demand, seed)
        faults = plan.faults.get(index, ())
        kind = FluidEngine if plan.is_fluid else LlmEngine
        self.engine = kind(plan.platform, traffic, faults=faults, seed=seed, becomes=plan.becomes)
        self.page_failures = 0
        self.retries = 0.0
        self._ran_s = 0.0

    def advance(self, now_s: float) -> None:
        self.engine.advance(now_s)
        if not self.has_page:
            self.page_failures += 1

    @property
    def is_gone(self) -> bool:
        """Whether nobody listens there."""
        return not self.engine.is_ready

    @property
    def has_page(self) -> bool:
        return self.engine.is_ready and self.engine.conditions.page is None

    @property
    def load(self) -> float:
        """Return how busy the GPU is kept, at most 1."""
        if self.is_gone:
            return 0.0
        return min(1.0, 0.55 * bool(self.engine.metrics.running) + 0.008 * self.running)

    @property
    def running(self) -> int:
        return int(self.engine.metrics.running)

    def key(self, signal: str) -> SeriesKey:
        return SeriesKey(signal, service=SERVICE, endpoint=self.endpoint)

    def page(self, now_s: float) -> Iterator[Sample]:
        """Yield what a scrape says."""
        yield Sample(self.key("replica_page_failures_total"), now_s, float(self.page_failures))
        if not self.has_page:
            yield Sample(self.key("replica_ready"), now_s, 0.0)
            return
        yield Sample(self.key("replica_page_seconds"), now_s, 0.004)
        for signal, value in signals(self.engine, OBJECTIVE_S).items():
            yield Sample(self.key(signal), now_s, value)

    def totals(self, now_s: float, wall_s: float) -> ServiceTotals:
        metrics = self.engine.metrics
        found = signals(self.engine, OBJECTIVE_S)
        return ServiceTotals(
            service=SERVICE,
            instance=self.endpoint,
            started_wall_s=metrics.started_wall_s,
            observed_wall_s=wall_s,
            requests=int(found["replica_requests_total"]),
            failed=int(found["replica_requests_failed_total"]),
            timed_out=0,
            over_objective=int(found["replica_requests_over_objective_total"]),
            tokens=metrics.generation_tokens,
            ready=self.has_page,
            waiting=metrics.waiting,
            running=metrics.running,
        )

    @property
    def held_bytes(self) -> float:
        """Return the memory that the process holds; it grows with the pieces nobody can use."""
        total = float(self.card.facts["memory_total_bytes"])
        room = (1.0 - TAKEN) * total - self.card.strain.foreign_bytes
        return TAKEN * total + max(0.0, room) * 0.97 * self.card.strain.stranded_share

    def described(self) -> Process:
        return Process(
            key=self.process,
            pid=2_000 + 100 * self.index + self.engine.restarts,
            start_ticks=1 + self.engine.restarts,
            gpus=(self.card.gpu.uuid,),
            unit=self.process,
            engine="vllm",
            model=self.engine.platform.model,
            service=SERVICE,
            endpoint=self.endpoint,
            tapped=self.plan.is_tapped,
        )

    def of_process(self, now_s: float, free_bytes: float) -> Iterator[Sample]:
        """Yield what the driver and the tap say of the process; ``free_bytes``: of the GPU."""
        share = self.load * (1.0 - 0.5 * self.card.strain.foreign_share)
        figures = {
            "process_gpu_memory_bytes": self.held_bytes,
            "process_gpu_utilization_ratio": round(min(0.99, 1.6 * share), 2),
            "process_kv_cache_blocks": float(self.engine.platform.kv_blocks),
            "process_kv_cache_usage_ratio": self.engine.metrics.kv_cache_usage,
        }
        if self.plan.is_tapped:
            figures |= self._tap(free_bytes)
        gpu = self.card.gpu.uuid
        for signal, value in figures.items():
            yield Sample(SeriesKey(signal, gpu=gpu, process=self.process), now_s, value)

    def _tap(self, free_bytes: float) -> dict[str, float]:
        strain, chance = self.card.strain, self.card.random
        # Told every five seconds: of some the next flush is yet to come, of others several came.
        due = strain.retries_per_minute / 12
        self.retries += max(1.0, due) if chance.random() < due else 0.0
        reserved = self.held_bytes - CONTEXT_BYTES
        base = TAKEN * self.card.facts["memory_total_bytes"] - CONTEXT_BYTES
        stranded = reserved - base + 0.002 * base
        releasable = 0.016 * base * (1.0 - strain.stranded_share) * chance.uniform(0.9, 1.0)
        fast = max(16e6, 0.012 * base * (1.0 - strain.stranded_share))
        in_use = reserved - stranded - releasable
        headroom = max(fast, free_bytes + releasable)
        return {
            "process_memory_reserved_bytes": reserved,
            "process_memory_allocated_bytes": in_use,
            "process_memory_active_bytes": in_use,
            "process_memory_requested_bytes": 0.999 * in_use,
            "process_memory_stranded_bytes": stranded,
            "process_memory_releasable_bytes": releasable,
            "process_memory_headroom_bytes": headroom,
            "process_memory_headroom_fast_bytes": fast,
            "process_memory_headroom_ratio": headroom / LARGE_REQUEST_BYTES,
            "process_memory_mean_large_request_bytes": LARGE_REQUEST_BYTES,
            "process_memory_unusable_free_ratio": stranded / (stranded + releasable),
            "process_allocation_retries_total": float(int(self.retries)),
            "process_allocation_driver_calls_total": float(int(6 * self.retries)),
            "process_out_of_memory_total": 0.0,
            "process_memory_expandable_segments": 0.0,
        }
