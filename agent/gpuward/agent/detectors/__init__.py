"""Judgements over windows of samples, one per file, pure, each listed once in ``DETECTORS``.

To add one: write ``detectors/<what_is_wrong>.py`` with its ``KIND`` and ``detect(window, limits)``,
its line here, and a table test; CONTRIBUTING.md has an example.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.detectors import (
    agent_permission_missing,
    clock_slow,
    cpu_starved,
    driver_missing,
    driver_unresponsive,
    ecc_corrected,
    ecc_uncorrected,
    gpu_flags,
    gpu_init_failed,
    gpu_lost,
    gpu_missing,
    gpu_probe_preempted,
    gpu_probe_slow,
    gpu_saturated,
    gpu_slower_than_siblings,
    gpu_stalled,
    gpu_wedged,
    kmsg_unreadable,
    latency_cause,
    latency_inter_token,
    latency_objective,
    latency_queue,
    memory_allocator_conf,
    memory_blind,
    memory_coverage,
    memory_fragmentation,
    memory_headroom,
    memory_leak,
    memory_neighbour,
    memory_retries,
    memory_saturation,
    memory_temperature,
    memory_unattributed,
    node_maintenance,
    nvlink,
    pcie_degraded,
    pcie_replays,
    power_brake,
    power_limit_lowered,
    service_canary,
    service_endpoint_failing,
    service_errors,
    service_outage,
    service_upstream_down,
    service_upstream_slow,
    sxid,
    task_blocked,
    thermal_slowdown,
    xid,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuward.agent.kind import Kind
    from gpuward.agent.model import Finding
    from gpuward.agent.window import Window


@dataclass(frozen=True, slots=True)
class Detector:
    """A kind of finding, and the judgement whether there is one now."""

    kind: Kind
    detect: Callable[[Window], Iterator[Finding]]

    @property
    def component(self) -> str:
        """Return what its health is shown under."""
        return f"detector.{self.kind.name}"


DETECTORS: tuple[Detector, ...] = (
    Detector(agent_permission_missing.KIND, agent_permission_missing.detect),
    Detector(clock_slow.KIND, clock_slow.detect),
    Detector(cpu_starved.KIND, cpu_starved.detect),
    Detector(driver_missing.KIND, driver_missing.detect),
    Detector(driver_unresponsive.KIND, driver_unresponsive.detect),
    Detector(ecc_corrected.KIND, ecc_corrected.detect),
    Detector(ecc_uncorrected.KIND, ecc_uncorrected.detect),
    *(Detector(flag.kind, flag.detect) for flag in gpu_flags.FLAGS),
    Detector(gpu_init_failed.KIND, gpu_init_failed.detect),
    Detector(gpu_lost.KIND, gpu_lost.detect),
    Detector(gpu_missing.KIND, gpu_missing.detect),
    Detector(gpu_probe_preempted.KIND, gpu_probe_preempted.detect),
    Detector(gpu_probe_slow.KIND, gpu_probe_slow.detect),
    Detector(gpu_saturated.KIND, gpu_saturated.detect),
    Detector(gpu_slower_than_siblings.KIND, gpu_slower_than_siblings.detect),
    Detector(gpu_stalled.KIND, gpu_stalled.detect),
    Detector(gpu_wedged.KIND, gpu_wedged.detect),
    Detector(kmsg_unreadable.KIND, kmsg_unreadable.detect),
    Detector(latency_cause.KIND, latency_cause.detect),
    Detector(latency_inter_token.KIND, latency_inter_token.detect),
    Detector(latency_objective.KIND, latency_objective.detect),
    Detector(latency_queue.KIND, latency_queue.detect),
    Detector(memory_allocator_conf.KIND, memory_allocator_conf.detect),
    Detector(memory_blind.KIND, memory_blind.detect),
    Detector(memory_coverage.KIND, memory_coverage.detect),
    Detector(memory_fragmentation.KIND, memory_fragmentation.detect),
    Detector(memory_headroom.KIND, memory_headroom.detect),
    Detector(memory_leak.KIND, memory_leak.detect),
    Detector(memory_neighbour.KIND, memory_neighbour.detect),
    Detector(memory_retries.KIND, memory_retries.detect),
    Detector(memory_saturation.KIND, memory_saturation.detect),
    Detector(memory_temperature.KIND, memory_temperature.detect),
    Detector(memory_unattributed.KIND, memory_unattributed.detect),
    Detector(node_maintenance.KIND, node_maintenance.detect),
    Detector(nvlink.KIND, nvlink.detect),
    Detector(pcie_degraded.KIND, pcie_degraded.detect),
    Detector(pcie_replays.KIND, pcie_replays.detect),
    Detector(power_brake.KIND, power_brake.detect),
    Detector(power_limit_lowered.KIND, power_limit_lowered.detect),
    Detector(service_canary.KIND, service_canary.detect),
    Detector(service_endpoint_failing.KIND, service_endpoint_failing.detect),
    Detector(service_errors.KIND, service_errors.detect),
    Detector(service_outage.KIND, service_outage.detect),
    Detector(service_upstream_down.KIND, service_upstream_down.detect),
    Detector(service_upstream_slow.KIND, service_upstream_slow.detect),
    Detector(sxid.KIND, sxid.detect),
    Detector(task_blocked.KIND, task_blocked.detect),
    Detector(thermal_slowdown.KIND, thermal_slowdown.detect),
    Detector(xid.KIND, xid.detect),
)
