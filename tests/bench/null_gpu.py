"""One healthy GPU of a simulator's profile, as samplers report it, while a load runs on it.

Noise follows captures of real nodes (research on signals, 6.1): power swings by some percent from
second to second and stays under its limit, where the driver takes clocks back; clocks move in steps
of 15 MHz; a consumer card at rest falls to PCIe generation 1 and 210 MHz; a thermal margin is now
and then below zero for one reading; reason bits flicker when the clocks change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gpuward.agent.model import Gpu, Sample, SeriesKey
from gpuward.agent.signals import SIGNALS, Scope

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

STEP_HERTZ = 15e6
MHZ = 1e6
IDLE, CAP, HW_SLOWDOWN, SW_THERMAL = 0x1, 0x4, 0x8, 0x20
DAY = 86_400
# Of each card, in a day: repaired errors, of memory (in bursts), of PCIe and of NVLink.
CORRECTED_BURSTS_A_DAY = 0.5
REPLAYS_A_DAY = 4.0
NVLINK_REPLAYS_A_DAY = 6.0
FLICKERS_A_DAY = 20.0
NEVER = (
    "gpu_ecc_uncorrected_total",
    "gpu_ecc_dram_uncorrected_total",
    "gpu_ecc_sram_uncorrected_total",
    "gpu_ecc_sram_threshold_exceeded",
    "gpu_row_remap_pending",
    "gpu_row_remap_failed",
    "gpu_row_remap_banks_exhausted",
)
GPM = (
    "gpu_sm_active_ratio",
    "gpu_tensor_active_ratio",
    "gpu_dram_active_ratio",
    "gpu_pcie_transmit_bytes_per_second",
    "gpu_pcie_receive_bytes_per_second",
    "gpu_nvlink_transmit_bytes_per_second",
    "gpu_nvlink_receive_bytes_per_second",
)
# NVML says of neither with MIG on.
NOT_WITH_MIG = ("gpu_utilization_ratio", "gpu_memory_bandwidth_utilization_ratio", *GPM)


@dataclass(slots=True)
class Card:
    """A GPU and what moves about it; ``card`` and ``room`` set it apart from its siblings."""

    facts: dict[str, Any]
    index: int
    random: random.Random
    gpu: Gpu = field(init=False)
    keys: dict[str, SeriesKey] = field(init=False)
    card: float = field(init=False)
    heat: float = 30.0
    was_busy: bool = False
    counters: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        facts = self.facts
        self.card = self.random.uniform(0.96, 1.04)
        self.gpu = Gpu(
            facts["uuid"],
            self.index,
            facts["name"],
            f"00000000:{facts['pci_bus']:02X}:00.0",
            serial=facts.get("serial", ""),
            unsupported=frozenset(self._unsupported()),
        )
        self.keys = {
            name: SeriesKey(name, gpu=self.gpu.uuid)
            for name, signal in SIGNALS.items()
            if signal.scope is Scope.GPU
        }
        self.keys["probe_launch_seconds"] = SeriesKey("probe_launch_seconds", gpu=self.gpu.uuid)
        self.reload()

    def reload(self) -> None:
        """Start what counts from the driver's load."""
        self.counters = dict.fromkeys(
            ("energy", "corrected", "replays", "nvlink", "capped", "hot"), 0.0
        )

    def can(self, capability: str) -> bool:
        return capability in self.facts["capabilities"]

    @property
    def is_cut(self) -> bool:
        return bool(self.facts.get("mig_mode"))

    def fast(self, now_s: float, load: float, used: float, noon: float) -> Iterator[Sample]:
        """Yield what is read every second; ``used``: bytes, ``noon``: 0 at night, 1 at noon."""
        keys = self.keys
        for signal, value in self._fast(load, used, noon).items():
            yield Sample(keys[signal], now_s, value)

    def slow(self, now_s: float) -> Iterator[Sample]:
        """Yield what is read every 30 s."""
        for signal, value in self._slow().items():
            yield Sample(self.keys[signal], now_s, value)

    def _fast(self, load: float, used: float, noon: float) -> dict[str, float]:
        chance, facts = self.random, self.facts
        busy = load > chance.uniform(0.0, 0.02)
        limit = facts["power_limit_enforced_milliwatts"] / 1e3
        rest = facts["power_draw_milliwatts"] / 1e3
        asked = rest + (limit - rest) * (0.25 + 0.85 * load) * self.card * busy
        watts = min(limit, asked + chance.gauss(0.0, 0.02) * limit * busy)
        capped = watts >= 0.985 * limit
        self.heat += (22.0 + 6.0 * noon + 45.0 * watts / limit - self.heat) / 60.0
        reasons = self._reasons(busy=busy, capped=capped)
        clock = self._clock(busy=busy, capped=capped)
        self.was_busy = busy
        self.counters["energy"] += watts
        self.counters["capped"] += capped
        margin = facts["temperature_slowdown_celsius"] - self.heat
        signals = {
            "gpu_sm_clock_hertz": clock,
            "gpu_memory_clock_hertz": facts[f"memory_clock{'_max' * busy}_megahertz"] * MHZ,
            "gpu_clock_event_reasons": float(reasons),
            "gpu_power_draw_watts": watts,
            "gpu_energy_joules_total": self.counters["energy"],
            "gpu_temperature_celsius": float(round(self.heat)),
            "gpu_memory_used_bytes": used,
            "gpu_memory_free_bytes": facts["memory_total_bytes"] - used,
            "gpu_clock_event_sw_power_cap_seconds_total": self.counters["capped"],
            "gpu_clock_event_sw_thermal_seconds_total": self.counters["hot"],
            "gpu_clock_event_hw_thermal_seconds_total": 0.0,
            "gpu_clock_event_hw_power_brake_seconds_total": 0.0,
            "gpu_nvml_call_seconds": chance.uniform(1e-4, 5e-3),
        }
        if self.can("thermal_margin"):
            odd = chance.random() < 5 / DAY
            signals["gpu_temperature_margin_celsius"] = -1.0 if odd else float(round(margin))
        if self.can("memory_temperature"):
            signals["gpu_memory_temperature_celsius"] = float(round(self.heat + 8.0 + 4.0 * noon))
        if not self.is_cut:
            signals |= self._activity(load, busy=busy)
        return signals

    def _activity(self, load: float, *, busy: bool) -> dict[str, float]:
        chance = self.random
        prefill = chance.random() < 0.2
        # A card that somebody wakes without persistence mode reads 100 % for a moment.
        duty = min(1.0, 3.0 * load + 0.1) if busy else float(chance.random() < 20 / DAY)
        signals = {
            "gpu_utilization_ratio": round(duty, 2),
            "gpu_memory_bandwidth_utilization_ratio": round(0.6 * load * busy, 2),
        }
        if self.can("gpm"):
            noise = chance.gauss(0.0, 0.03) * busy
            sm = 0.3 + 0.65 * load if busy else 0.0
            dram = 0.05 + (0.4 if prefill else 0.75) * load if busy else 0.0
            tensor = (0.6 if prefill else 0.15) * load
            signals |= {
                "gpu_sm_active_ratio": min(1.0, max(0.0, sm + noise)),
                "gpu_dram_active_ratio": min(0.85, max(0.0, dram + noise)),
                "gpu_tensor_active_ratio": min(1.0, max(0.0, tensor + noise * (tensor > 0))),
                "gpu_pcie_transmit_bytes_per_second": 4e8 * load,
                "gpu_pcie_receive_bytes_per_second": 2e8 * load,
            }
            if self.can("nvlink"):
                signals["gpu_nvlink_transmit_bytes_per_second"] = 6e10 * load
                signals["gpu_nvlink_receive_bytes_per_second"] = 6e10 * load
        return signals

    def _reasons(self, *, busy: bool, capped: bool) -> int:
        chance = self.random
        reasons = (0 if busy else IDLE) | (CAP if capped else 0)
        if busy != self.was_busy and chance.random() < 0.2:
            # nvml.h: it may show for a moment while the performance state changes.
            reasons |= HW_SLOWDOWN
        if chance.random() < FLICKERS_A_DAY / DAY:
            reasons |= SW_THERMAL
            self.counters["hot"] += 0.2
        return reasons

    def _clock(self, *, busy: bool, capped: bool) -> float:
        chance, facts = self.random, self.facts
        if not busy:
            return float(facts["sm_clock_megahertz"] * MHZ)
        steps = chance.randrange(0, 3) + (chance.randrange(4, 25) if capped else 0)
        # Boost of a consumer card depends on its chip and on its heat.
        boost = 1.0 if self.can("nvlink") else 0.93 + 0.02 * self.card
        return float(facts["sm_clock_max_megahertz"] * MHZ * boost - steps * STEP_HERTZ)

    def _slow(self) -> dict[str, float]:
        chance, facts = self.random, self.facts
        per_turn = 30.0 / DAY
        self.counters["replays"] += chance.random() < REPLAYS_A_DAY * per_turn
        generation = facts["pcie_link_generation_max" if self.was_busy else "pcie_link_generation"]
        signals = {
            "gpu_memory_total_bytes": float(facts["memory_total_bytes"]),
            "gpu_memory_reserved_bytes": float(facts["memory_reserved_bytes"]),
            "gpu_power_limit_watts": facts["power_limit_enforced_milliwatts"] / 1e3,
            "gpu_power_default_limit_watts": facts["power_limit_default_milliwatts"] / 1e3,
            "gpu_sm_clock_max_hertz": facts["sm_clock_max_megahertz"] * MHZ,
            "gpu_pcie_link_generation": float(generation),
            "gpu_pcie_link_generation_max": float(facts["pcie_link_generation_max"]),
            "gpu_pcie_link_width": float(facts["pcie_link_width"]),
            "gpu_pcie_link_width_max": float(facts["pcie_link_width_max"]),
            "gpu_pcie_replays_total": self.counters["replays"],
            "gpu_pcie_errors_fatal_total": 0.0,
            "gpu_recovery_action": 0.0,
            "gpu_inforom_valid": 1.0,
            "probe_launch_seconds": 8e-6 * chance.choice((1.0,) * 8 + (0.9, 1.2, 3.0)),
        }
        if self.can("ecc"):
            if chance.random() < CORRECTED_BURSTS_A_DAY * per_turn:
                self.counters["corrected"] += chance.randrange(1, 60)
            signals |= dict.fromkeys(NEVER, 0.0)
            signals["gpu_ecc_corrected_total"] = self.counters["corrected"]
        if self.can("nvlink"):
            self.counters["nvlink"] += chance.random() < NVLINK_REPLAYS_A_DAY * per_turn
            signals |= {
                "gpu_nvlink_links": float(facts["nvlink_count"]),
                "gpu_nvlink_links_active": float(facts["nvlink_count"]),
                "gpu_nvlink_replay_errors_total": self.counters["nvlink"],
                "gpu_nvlink_recovery_errors_total": 0.0,
                "gpu_nvlink_crc_errors_total": self.counters["nvlink"],
            }
        if self.can("fabric"):
            signals |= {"gpu_fabric_state": 3.0, "gpu_fabric_healthy": 1.0}
        return signals

    def _unsupported(self) -> Iterator[str]:
        for capability, signals in (
            ("ecc", ("gpu_ecc_corrected_total", *NEVER)),
            ("row_remapping", [name for name in NEVER if "remap" in name]),
            ("memory_temperature", ("gpu_memory_temperature_celsius",)),
            ("thermal_margin", ("gpu_temperature_margin_celsius",)),
            ("nvlink", ("gpu_nvlink_links", "gpu_nvlink_links_active")),
            ("fabric", ("gpu_fabric_state", "gpu_fabric_healthy")),
            ("gpm", GPM),
        ):
            if not self.can(capability):
                yield from signals
        yield from ("gpu_retired_pages", "gpu_retired_pages_double_bit")
        yield from ("gpu_retired_pages_pending", "gpu_repair_pending", "gpu_memory_unrepairable")
        if self.is_cut:
            yield from NOT_WITH_MIG
