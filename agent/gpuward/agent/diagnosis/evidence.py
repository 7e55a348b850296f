"""The evidence: every question that can be asked of a replica, and what looks for the answer.

A row: its name, the question of the runbook that it answers (0: none of them), its words, and who
looks.  Rows of one group rest on the same measurement and may not count twice: see ``CAPS``.  Where
a detector judges the same, the detector is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from gpuward.agent.diagnosis import (
    of_answers,
    of_clocks,
    of_hardware,
    of_load,
    of_memory,
    of_probes,
    of_requests,
    of_surroundings,
    of_upstreams,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuward.agent.diagnosis.case import Case
    from gpuward.agent.diagnosis.seen import Seen


class Group(StrEnum):
    """What a piece of evidence rests on."""

    LATENCY = "latency"
    QUEUE = "queue"
    INPUT = "input"
    MEMORY = "memory"
    CLOCKS = "clocks"
    HARDWARE = "hardware"
    PROBES = "probes"
    NEIGHBOURS = "neighbours"
    HOST = "host"
    UPSTREAM = "upstream"
    ANSWERS = "answers"
    PRESENCE = "presence"


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of evidence; ``question``: 1 to 4, 0 where the runbook does not ask."""

    name: str
    group: Group
    question: int
    words: str
    look: Callable[[Case], Seen]


_ROWS: dict[Group, tuple[tuple[str, int, str, Callable[[Case], Seen]], ...]] = {
    Group.LATENCY: (
        ("inter_token_slow", 0, "tokens come slower than at such a load", of_requests.slow),
        ("objective_missed", 0, "requests miss their objective", of_requests.objective),
        ("requests_fail", 0, "more requests fail than usual", of_requests.errors),
        ("outage", 0, "all requests fail or hang", of_requests.outage),
        ("tokens_stopped", 0, "requests run and no token comes", of_requests.tokens_stopped),
    ),
    Group.QUEUE: (
        ("queueing", 2, "requests wait for their turn", of_requests.queue),
        ("batch_full", 2, "as many requests run as can", of_requests.batch_full),
        ("arrivals_up", 2, "more requests come than usual", of_requests.arrivals_up),
        ("gpu_saturated", 1, "a GPU is at a ceiling and requests wait", of_load.saturated),
    ),
    Group.INPUT: (
        ("prompts_longer", 3, "prompts are longer than usual", of_requests.prompts_longer),
    ),
    Group.MEMORY: (
        ("kv_cache_full", 1, "the KV cache is full", of_memory.kv_cache_full),
        ("preemptions", 1, "requests are put back for want of room", of_memory.preemptions),
        ("fragmented", 1, "the allocator's memory is in pieces", of_memory.allocator_fragmented),
        ("memory_refused", 1, "a request failed for want of one piece", of_memory.refused),
        ("allocator_retries", 1, "the allocator keeps flushing its cache", of_memory.retries),
        ("headroom_low", 1, "hardly another large request fits", of_memory.headroom_low),
        ("memory_exhausted", 1, "almost all memory of a GPU is in use", of_memory.exhausted),
    ),
    Group.CLOCKS: (
        ("power_limit_lowered", 1, "the power limit is below its default", of_clocks.limit_lowered),
        ("power_brake", 1, "the power supply holds the clocks down", of_clocks.brake),
        ("power_capped", 1, "the power limit holds the clocks down", of_clocks.capped),
        ("heat_slowdown", 1, "heat holds the clocks down", of_clocks.heat),
        ("clock_low", 1, "the clock is below what the GPU holds", of_clocks.low),
    ),
    Group.HARDWARE: (
        ("pcie_degraded", 1, "the PCIe link is slower than it can be", of_hardware.pcie_slow),
        ("nvlink_degraded", 1, "NVLink is down or carries errors", of_hardware.nvlink_bad),
        (
            "memory_corrects",
            1,
            "memory keeps correcting errors",
            of_hardware.errors_corrected,
        ),
        ("repair_waits", 1, "faulty memory waits for a reset", of_hardware.repair_waits),
        ("memory_fails", 1, "memory errors were not corrected", of_hardware.errors_uncorrected),
        ("gpu_fails", 1, "the driver calls the GPU faulty", of_hardware.faulty),
        ("xid", 1, "the driver reported an XID of the GPU", of_hardware.xid_of_gpu),
        ("behind_siblings", 1, "the GPU does less than its siblings", of_hardware.behind_siblings),
    ),
    Group.PROBES: (
        (
            "probe_clock_low",
            1,
            "a probe measured a low clock",
            of_probes.clock_low,
        ),
        ("probe_preempted", 1, "probes stand still again and again", of_probes.preempted),
        ("probe_copy_slow", 1, "copies over PCIe are slower than learned", of_probes.copies_slow),
        (
            "probe_memory_slow",
            1,
            "copies in the GPU are slower than usual",
            of_probes.memory_slow,
        ),
        ("probe_kernel_slow", 1, "empty kernels are slower than learned", of_probes.kernels_slow),
    ),
    Group.NEIGHBOURS: (
        ("stranger_computes", 1, "another process computes on the GPU", of_load.stranger_computes),
        ("stranger_took_memory", 1, "another process took the memory", of_memory.stranger),
    ),
    Group.HOST: (
        ("cpu_starved", 1, "threads do not get their core", of_surroundings.starved),
        ("cpu_pressure", 1, "tasks wait for a core", of_surroundings.cpu_pressure),
        ("host_bound", 1, "requests wait although the GPU has room", of_load.host_bound),
    ),
    Group.UPSTREAM: (
        ("upstream_slow", 4, "an upstream is slower than usual", of_upstreams.slow),
        ("upstream_down", 4, "an upstream does not answer, or fails", of_upstreams.down),
        ("upstream_refuses", 4, "an upstream refuses: too many requests", of_upstreams.refuses),
    ),
    Group.ANSWERS: (
        ("answers_differ", 0, "it answers the same question otherwise", of_answers.differ),
        ("siblings_agree", 0, "other replicas answer it as ever", of_answers.siblings_agree),
    ),
    Group.PRESENCE: (
        ("gpu_gone", 1, "a GPU cannot be reached", of_surroundings.gpu_gone),
        ("driver_silent", 1, "the driver does not answer", of_surroundings.driver_silent),
        ("page_unreadable", 0, "the engine's page cannot be read", of_surroundings.page_unreadable),
        ("endpoint_answers", 0, "own requests are answered", of_surroundings.endpoint_answers),
        ("restarted", 0, "the replica began to count anew", of_requests.restarted),
        ("coordinator_silent", 0, "the coordinator is away", of_surroundings.coordinator_silent),
        ("clock_stepped", 0, "the node's clock was set", of_surroundings.clock_stepped),
    ),
}

ITEMS: dict[str, Item] = {
    name: Item(name, group, question, words, look)
    for group, rows in _ROWS.items()
    for name, question, words, look in rows
}

# Decibans that a group can weigh.  Latency alone is no cause; what was measured at the place of the
# trouble decides.
CAPS: dict[Group, float] = {
    Group.LATENCY: 15.0,
    Group.QUEUE: 35.0,
    Group.INPUT: 30.0,
    Group.MEMORY: 40.0,
    Group.CLOCKS: 30.0,
    Group.HARDWARE: 35.0,
    Group.PROBES: 20.0,
    Group.NEIGHBOURS: 30.0,
    Group.HOST: 30.0,
    Group.UPSTREAM: 30.0,
    Group.ANSWERS: 25.0,
    Group.PRESENCE: 35.0,
}

# Any of these is reason enough to look for a cause, also before requests are slow.
OPENING: tuple[str, ...] = (
    "inter_token_slow",
    "objective_missed",
    "queueing",
    "requests_fail",
    "outage",
    "fragmented",
    "stranger_took_memory",
    "prompts_longer",
    "power_brake",
    "heat_slowdown",
    "pcie_degraded",
    "memory_corrects",
    "memory_fails",
    "gpu_fails",
    "xid",
    "upstream_slow",
    "upstream_down",
    "upstream_refuses",
    "answers_differ",
    "gpu_gone",
    "driver_silent",
    "page_unreadable",
    "coordinator_silent",
    "clock_stepped",
)
