"""Each fault from its scenario file, through the real binding, to finding and metric, and back.

A table of what the page shall show: which findings, how loud, with which figure beside them; and
nothing else, so that a healthy GPU beside a sick one is drilled too.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

pytestmark = pytest.mark.simulator


@dataclass(frozen=True)
class Shown:
    """A finding about GPU ``gpu`` (``None``: the node), as the page shows it at its worst.

    ``metric`` is on the same page with a value from ``least`` to ``most``.  ``stays``: it is open
    still when the drill ends, because nothing but a person ends it.
    """

    kind: str
    gpu: int | None
    result: str
    loud: str
    metric: str
    least: float
    most: float
    code: int = 0
    stays: bool = False

    @property
    def key(self):
        return (self.kind, self.gpu, self.code)


@dataclass(frozen=True)
class Well:
    """A GPU about which nothing may be found, though the page shows this figure of it."""

    gpu: int
    metric: str
    least: float
    most: float


# So long after a scenario's last step only time has to pass, which it may do in greater steps.
QUIET_AFTER_S = 60.0
QUIET_STEP_S = 4.0
DRILLS = {
    # Seconds to play, and what the page shall show.
    "memory": (
        260,
        (
            Shown("gpu.memory.remap_pending", 0, "warn", "ticket", "gpu_row_remap_pending", 1, 1),
            Shown("gpu.memory.remap_failed", 1, "fail", "page", "gpu_row_remap_failed", 1, 1),
            Shown(
                "gpu.ecc.sram_threshold", 2, "fail", "page", "gpu_ecc_sram_threshold_exceeded", 1, 1
            ),
            Shown("gpu.ecc.uncorrected", 3, "fail", "page", "gpu_ecc_dram_uncorrected_total", 2, 2),
            Shown(
                "gpu.memory.remap_exhausted",
                4,
                "warn",
                "ticket",
                "gpu_row_remap_banks_exhausted",
                1,
                1,
            ),
            Shown("gpu.memory.repair_pending", 5, "warn", "ticket", "gpu_repair_pending", 1, 1),
            Shown("gpu.inforom.corrupt", 6, "warn", "ticket", "gpu_inforom_valid", 0, 0),
        ),
    ),
    "ecc_slope": (
        1_400,
        (
            Shown(
                "gpu.ecc.corrected_rate",
                1,
                "warn",
                "ticket",
                "gpu_ecc_corrected_total",
                120,
                10_000,
            ),
            Shown(
                "gpu.ecc.corrected_rate",
                2,
                "fail",
                "page",
                "gpu_ecc_corrected_total",
                12_000,
                200_000,
            ),
        ),
    ),
    "clocks": (
        800,
        (
            Shown(
                "gpu.power.brake",
                0,
                "fail",
                "page",
                "gpu_clock_event_hw_power_brake_seconds_total",
                1,
                60,
            ),
            Shown(
                "gpu.thermal.slowdown",
                1,
                "fail",
                "page",
                "gpu_clock_event_hw_thermal_seconds_total",
                1,
                60,
            ),
            Shown(
                "gpu.thermal.slowdown",
                2,
                "warn",
                "ticket",
                "gpu_clock_event_sw_thermal_seconds_total",
                1,
                240,
            ),
            # The GPU at its power limit has none; the one whose limit was lowered a note.
            Shown("gpu.power.limit_lowered", 4, "ok", "store", "gpu_power_limit_watts", 500, 500),
            Shown(
                "gpu.clock.slow_under_load", 5, "warn", "ticket", "gpu_sm_clock_hertz", 1e9, 1.1e9
            ),
            Shown(
                "gpu.thermal.memory", 6, "warn", "ticket", "gpu_memory_temperature_celsius", 97, 97
            ),
        ),
    ),
    "pcie": (
        1_100,
        (
            Shown("gpu.pcie.degraded", 0, "fail", "page", "gpu_pcie_link_width", 8, 8),
            Shown("gpu.pcie.degraded", 1, "warn", "ticket", "gpu_pcie_link_generation", 3, 3),
            Shown("gpu.pcie.replays", 2, "warn", "ticket", "gpu_pcie_replays_total", 100, 600),
            Shown("gpu.pcie.replays", 4, "fail", "page", "gpu_aer_fatal_total", 1, 1),
        ),
    ),
    "slow_link": (
        860,
        (
            Shown("gpu.pcie.degraded", 0, "fail", "page", "gpu_pcie_link_generation", 3, 3),
            Shown("gpu.pcie.degraded", 1, "warn", "ticket", "gpu_pcie_link_generation", 3, 3),
        ),
    ),
    "aer": (
        1_000,
        # The card's NVML counts no such errors, the kernel does.
        (Shown("gpu.pcie.replays", 0, "fail", "page", "gpu_aer_fatal_total", 1, 1),),
    ),
    "links": (
        600,
        (
            Shown("gpu.nvlink.degraded", 0, "fail", "page", "gpu_nvlink_links_active", 17, 17),
            Shown(
                "gpu.nvlink.degraded", 1, "warn", "ticket", "gpu_nvlink_crc_errors_total", 101, 900
            ),
            Shown("gpu.fabric.unhealthy", 2, "fail", "page", "gpu_fabric_healthy", 0, 0),
            Shown("gpu.fabric.not_joined", 3, "fail", "page", "gpu_fabric_state", 2, 2),
            Shown("gpu.recovery_needed", 4, "fail", "page", "gpu_recovery_action", 1, 1),
            Shown("gpu.recovery_needed", 5, "warn", "ticket", "gpu_recovery_action", 3, 3),
        ),
    ),
    "l40s": (
        520,
        (
            Shown("gpu.memory.remap_pending", 0, "warn", "ticket", "gpu_row_remap_pending", 1, 1),
            Shown("gpu.memory.remap_failed", 1, "fail", "page", "gpu_row_remap_failed", 1, 1),
            # It follows from the failed row, of which somebody is told already.
            Shown(
                "gpu.memory.remap_exhausted",
                1,
                "warn",
                "store",
                "gpu_row_remap_banks_exhausted",
                2,
                2,
            ),
            Shown(
                "gpu.thermal.slowdown",
                2,
                "fail",
                "page",
                "gpu_clock_event_hw_thermal_seconds_total",
                1,
                60,
            ),
            Shown("gpu.ecc.uncorrected", 3, "fail", "page", "gpu_ecc_sram_uncorrected_total", 1, 1),
            Shown("gpu.recovery_needed", 3, "fail", "store", "gpu_recovery_action", 2, 2),
        ),
    ),
    "mig": (
        520,
        (
            Shown("gpu.ecc.uncorrected", 0, "fail", "page", "gpu_ecc_dram_uncorrected_total", 1, 1),
            Shown(
                "gpu.thermal.slowdown",
                0,
                "fail",
                "page",
                "gpu_clock_event_hw_thermal_seconds_total",
                1,
                60,
            ),
        ),
    ),
    "consumer": (
        640,
        (
            Shown("gpu.pcie.degraded", 0, "warn", "ticket", "gpu_pcie_link_generation", 1, 1),
            Shown(
                "gpu.power.brake",
                0,
                "fail",
                "page",
                "gpu_clock_event_hw_power_brake_seconds_total",
                1,
                60,
            ),
            Shown(
                "gpu.thermal.slowdown",
                0,
                "fail",
                "page",
                "gpu_clock_event_hw_thermal_seconds_total",
                1,
                60,
            ),
        ),
    ),
    "older_cards": (
        560,
        (
            Shown(
                "gpu.memory.retired_pages_pending",
                0,
                "warn",
                "ticket",
                "gpu_retired_pages_pending",
                1,
                1,
            ),
            Shown("gpu.thermal.slowdown", 1, "fail", "page", "gpu_clock_event_reasons", 72, 72),
            Shown("gpu.power.brake", 2, "fail", "page", "gpu_clock_event_reasons", 136, 136),
            Shown("gpu.ecc.uncorrected", 3, "fail", "page", "gpu_ecc_uncorrected_total", 1, 1),
        ),
    ),
    "unrepairable": (
        260,
        (Shown("gpu.memory.unrepairable", 2, "fail", "page", "gpu_memory_unrepairable", 1, 1),),
    ),
    "refused": (
        160,
        (
            Shown("agent.permission_missing", None, "warn", "store", "driver_up", 1, 1),
            # The driver is loaded anew, with other options.
            Shown("node.maintenance", None, "ok", "store", "node_driver_generation", 1, 1),
        ),
    ),
    "consumer_idle": (400, ()),
    "healthy_h100": (400, ()),
    "healthy_l40s": (400, ()),
    "healthy_mig": (400, ()),
    "lost": (
        260,
        (
            # The kernel's line has said it before.
            Shown("gpu.lost", 3, "fail", "store", "gpu_on_pci_bus", 0, 0, code=15),
            Shown("gpu.missing", None, "fail", "store", "node_gpus_present", 7, 7),
            Shown("gpu.xid", 3, "fail", "page", "node_kmsg_readable", 1, 1, code=79, stays=True),
        ),
    ),
    "never_came": (
        200,
        (
            Shown("gpu.lost", None, "fail", "page", "node_gpus_expected", 4, 4, code=15),
            # Told already: as many are lost by name as are missing in number.
            Shown("gpu.missing", None, "fail", "store", "node_gpus_present", 3, 3),
        ),
    ),
    "no_driver": (
        200,
        (Shown("driver.missing", None, "fail", "page", "driver_up", 0, 0, code=9),),
    ),
    "flood": (
        60,
        (Shown("gpu.xid", 2, "fail", "page", "node_kmsg_readable", 1, 1, code=48, stays=True),),
    ),
    "siblings": (
        800,
        (
            Shown(
                "gpu.slower_than_siblings", 5, "warn", "ticket", "gpu_sm_clock_hertz", 1.5e9, 1.5e9
            ),
        ),
    ),
    "reload": (
        160,
        (Shown("node.maintenance", None, "ok", "store", "node_driver_generation", 1, 1),),
    ),
}

WELL = {
    # Busy at its power limit: the software's cap holds its clocks nearly all the time.
    "clocks": (Well(3, "gpu_clock_event_sw_power_cap_seconds_total", 700, 800),),
    # A GeForce whose link rests with it.
    "consumer_idle": (Well(0, "gpu_pcie_link_generation", 1, 1),),
}


def ours(keys):
    """Return the findings about hardware and driver; memory of processes has tests of its own."""
    return {key for key in keys if not key[0].startswith("process.")}


@pytest.mark.parametrize("name", DRILLS)
async def test_fault(node, name):
    """The findings of the scenario and no others, each as loud as it should be, each cleared."""
    play_s, rows = DRILLS[name]
    async with node(name) as it:
        await it.play(min(play_s, it.ends_s + QUIET_AFTER_S))
        await it.play(play_s, step_s=QUIET_STEP_S)

    assert {row.key for row in rows} == ours(it.shown)
    for row in rows:
        # Never louder than that, not for a moment.
        louder = {"store": {"store"}, "ticket": {"store", "ticket"}}.get(row.loud)
        assert louder is None or {loud for _, loud in it.shown[row.key]} <= louder
        page = it.shown[row.key][row.result, row.loud]
        on_gpu = row.gpu if row.metric.startswith("gpu_") else None
        value = it.value(page, row.metric, on_gpu)
        assert (row.key, value is not None and row.least <= value <= row.most) == (row.key, True)
    for well in WELL.get(name, ()):
        value = it.value(it.page, well.metric, well.gpu)
        assert (well, value is not None and well.least <= value <= well.most) == (well, True)
        assert [key for key in it.shown if key[1] == well.gpu] == []
    still_open = {row.key for row in rows if row.stays}
    assert {key for key in ours(it.shown) if key not in it.cleared_s} == still_open
