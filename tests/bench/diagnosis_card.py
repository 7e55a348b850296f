"""A GPU of the benchmark of diagnosis: a healthy card of the null benchmark, under strain.

What probes of it would measure comes with it.  On a healthy node the engine itself is a probe's
neighbour: now and then a kernel waits for the end of the engine's slice of time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnosis_strain import POWER_BRAKE, SW_POWER_CAP, SW_THERMAL, GpuStrain
from null_gpu import Card

from gpuward.agent.model import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

GIGA = 1e9
# A slice of time on data centre GPUs is about 2 ms (research/latency.md, 1.2).
SLICE_S = 2e-3
ENGINE_GAPS = 0.06
EVENT_S = 2.6e-6
LINK_BYTES_PER_SECOND = 53.0 * GIGA
COPY_BYTES_PER_SECOND = 1_300.0 * GIGA
SPIN_S = 2e-4
COUNTERS = {
    SW_THERMAL: "gpu_clock_event_sw_thermal_seconds_total",
    0x40: "gpu_clock_event_hw_thermal_seconds_total",
    POWER_BRAKE: "gpu_clock_event_hw_power_brake_seconds_total",
}


class StrainedCard(Card):
    """``strain`` is what holds now; counters go on from what they were."""

    strain = GpuStrain()
    held_s = 0.0
    corrected = 0.0
    busy_s = 0.0
    # Bits that were ever set for a fault: what counts them never falls again.
    _once_held = 0

    def _fast(self, load: float, used: float, noon: float) -> dict[str, float]:
        strain, chance = self.strain, self.random
        own = self.facts["power_limit_enforced_milliwatts"]
        if strain.power_limit_watts is not None:
            self.facts["power_limit_enforced_milliwatts"] = 1e3 * strain.power_limit_watts
        signals: dict[str, float] = super()._fast(load, used, noon)
        self.facts["power_limit_enforced_milliwatts"] = own
        reasons = int(signals["gpu_clock_event_reasons"])
        if strain.clock < 1.0 and load > 0:
            signals["gpu_sm_clock_hertz"] *= strain.clock * chance.uniform(0.985, 1.015)
            signals["gpu_power_draw_watts"] *= min(1.0, 0.35 + 0.65 * strain.clock)
        if strain.power_limit_watts is not None and load > 0:
            reasons |= SW_POWER_CAP
            signals["gpu_power_draw_watts"] = strain.power_limit_watts * chance.uniform(0.97, 1.0)
        if chance.random() < strain.reasons_duty:
            reasons |= strain.reasons
            self.held_s += 1.0
        for bit, name in COUNTERS.items():
            if strain.reasons & bit or self._once_held & bit:
                signals[name] += self.held_s
        self._once_held |= strain.reasons
        signals["gpu_clock_event_reasons"] = float(reasons)
        self._heat(signals)
        return signals

    def _heat(self, signals: dict[str, float]) -> None:
        hotter = self.strain.hotter_celsius
        for name, sign in (
            ("gpu_temperature_celsius", 1.0),
            ("gpu_memory_temperature_celsius", 1.0),
            ("gpu_temperature_margin_celsius", -1.0),
        ):
            if name in signals:
                signals[name] += sign * round(hotter)

    def _slow(self) -> dict[str, float]:
        strain = self.strain
        signals: dict[str, float] = super()._slow()
        del signals["probe_launch_seconds"]
        if strain.power_limit_watts is not None:
            signals["gpu_power_limit_watts"] = strain.power_limit_watts
        if strain.pcie_width is not None:
            signals["gpu_pcie_link_width"] = float(strain.pcie_width)
        if strain.pcie_generation is not None:
            signals["gpu_pcie_link_generation"] = float(strain.pcie_generation)
        self.corrected += strain.corrected_per_minute / 2 * self.random.uniform(0.7, 1.3)
        signals["gpu_ecc_corrected_total"] += float(int(self.corrected))
        if strain.uncorrected:
            signals["gpu_ecc_uncorrected_total"] = float(strain.uncorrected)
            signals["gpu_ecc_dram_uncorrected_total"] = float(strain.uncorrected)
        if strain.remap_pending:
            signals["gpu_row_remap_pending"] = 1.0
        return signals

    def probed(self, now_s: float, load: float, launch: float) -> Iterator[Sample]:
        """Yield what a burst every ten seconds measures; ``launch``: how slow the host is."""
        chance, strain, keys = self.random, self.strain, self.keys
        waits = chance.random() < ENGINE_GAPS * load
        gap_s = chance.uniform(0.3, 1.0) * SLICE_S if waits else chance.uniform(0.0, 4e-6)
        if chance.random() < strain.gaps:
            gap_s = max(gap_s, strain.gap_s * chance.uniform(0.6, 1.4))
        event_s = EVENT_S * strain.event * chance.gauss(1.0, 0.02) * (1.05 if waits else 1.0)
        clock = self._clock(busy=load > 0, capped=False) * strain.clock
        self.busy_s += 7e-4
        for name, value in (
            ("gpu_probe_event_seconds", event_s),
            ("gpu_probe_event_shortest_seconds", 0.93 * event_s),
            ("gpu_probe_clock_hertz", clock * chance.gauss(1.0, 0.002)),
            ("gpu_probe_longest_gap_seconds", gap_s),
            ("gpu_probe_gap_ratio", gap_s / (gap_s + SPIN_S)),
            ("gpu_probe_busy_seconds_total", self.busy_s),
            ("gpu_probe_suspended", 0.0),
            ("probe_launch_seconds", 8e-6 * launch * chance.choice((1.0,) * 8 + (0.9, 1.2, 1.6))),
        ):
            yield Sample(keys[name], now_s, value)

    def copied(self, now_s: float, load: float) -> Iterator[Sample]:
        """Yield what copies once a minute measure; the engine's own traffic is in their way."""
        chance, strain, keys = self.random, self.strain, self.keys
        link = LINK_BYTES_PER_SECOND * strain.host_copy * (1.0 - 0.05 * load)
        inside = COPY_BYTES_PER_SECOND * strain.device_copy * (1.0 - 0.3 * load)
        for name, value in (
            ("gpu_probe_host_to_device_bytes_per_second", link),
            ("gpu_probe_device_to_host_bytes_per_second", 0.97 * link),
            ("gpu_probe_device_copy_bytes_per_second", inside),
        ):
            yield Sample(keys[name], now_s, value * chance.gauss(1.0, 0.012))
