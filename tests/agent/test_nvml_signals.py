"""Every signal of a GPU's hardware, from the simulated driver's state through the real binding."""

from __future__ import annotations

import asyncio
import os
import time
from itertools import dropwhile

import pytest

from gpuward.agent.model import SeriesKey
from gpuward.agent.nvml_device import ALL_SIGNALS
from gpuward.agent.samplers.nvml import NvmlSampler
from gpuward.daemon.clock import SystemClock

layout = pytest.importorskip("gpuward.simulator.layout")
libraries = pytest.importorskip("gpuward.simulator.libraries")
profile = pytest.importorskip("gpuward.simulator.profile")
state_module = pytest.importorskip("gpuward.simulator.state")

pytestmark = pytest.mark.simulator

MIB = 1 << 20

# Signal -> the field of the state behind it, what is written there, what is read.
BEHIND = {
    "gpu_performance_state": ("performance_state", 2, 2.0),
    "gpu_persistence_mode": ("persistence_mode", 1, 1.0),
    "gpu_compute_mode": ("compute_mode", 3, 3.0),
    "gpu_mig_mode": ("mig_mode", 0, 0.0),
    "gpu_ecc_mode": ("ecc_mode_current", 1, 1.0),
    "gpu_inforom_valid": ("inforom_corrupt", 1, 0.0),
    "gpu_bar1_memory_used_bytes": ("bar1_used_bytes", 7 * MIB, 7.0 * MIB),
    "gpu_bar1_memory_total_bytes": ("bar1_total_bytes", 1 << 37, float(1 << 37)),
    "gpu_ecc_dram_corrected_total": ("ecc_volatile_corrected_dram", 11, 11.0),
    "gpu_ecc_dram_uncorrected_total": ("ecc_volatile_uncorrected_dram", 12, 12.0),
    "gpu_ecc_sram_corrected_total": ("ecc_volatile_corrected_sram", 13, 13.0),
    "gpu_ecc_sram_uncorrected_total": ("ecc_volatile_uncorrected_sram", 14, 14.0),
    "gpu_ecc_sram_threshold_exceeded": ("sram_threshold_exceeded", 1, 1.0),
    "gpu_ecc_aggregate_corrected_total": ("ecc_aggregate_corrected_dram", 15, 15.0),
    "gpu_ecc_aggregate_uncorrected_total": ("ecc_aggregate_uncorrected_sram", 16, 16.0),
    "gpu_remapped_rows_corrected": ("remapped_rows_corrected", 1, 1.0),
    "gpu_remapped_rows_uncorrected": ("remapped_rows_uncorrected", 2, 2.0),
    "gpu_row_remap_pending": ("remapped_rows_pending", 1, 1.0),
    "gpu_row_remap_failed": ("remapped_rows_failure", 1, 1.0),
    "gpu_row_remap_banks_partial": ("remap_banks_partial", 5, 5.0),
    "gpu_row_remap_banks_exhausted": ("remap_banks_none", 6, 6.0),
    "gpu_repair_pending": ("channel_repair_pending", 1, 1.0),
    "gpu_sm_clock_max_hertz": ("sm_clock_max_megahertz", 1980, 1.98e9),
    "gpu_memory_clock_max_hertz": ("memory_clock_max_megahertz", 2619, 2.619e9),
    "gpu_clock_event_sw_power_cap_seconds_total": ("sw_power_cap_nanoseconds", 10**9, 1.0),
    "gpu_clock_event_sync_boost_seconds_total": ("sync_boost_nanoseconds", 2 * 10**9, 2.0),
    "gpu_clock_event_sw_thermal_seconds_total": ("sw_thermal_slowdown_nanoseconds", 10**9, 1.0),
    "gpu_clock_event_hw_thermal_seconds_total": ("hw_thermal_slowdown_nanoseconds", 10**9, 1.0),
    "gpu_clock_event_hw_power_brake_seconds_total": ("hw_power_brake_nanoseconds", 10**9, 1.0),
    "gpu_temperature_margin_celsius": ("temperature_celsius", 90, -3.0),
    "gpu_temperature_slowdown_margin_celsius": ("temperature_slowdown_celsius", 89, -2.0),
    "gpu_memory_temperature_max_margin_celsius": ("temperature_memory_max_celsius", 95, -8.0),
    "gpu_power_instant_watts": ("power_draw_milliwatts", 345_500, 345.5),
    "gpu_power_default_limit_watts": ("power_limit_default_milliwatts", 700_000, 700.0),
    "gpu_pcie_link_generation_max": ("pcie_link_generation_max", 5, 5.0),
    "gpu_pcie_link_width_max": ("pcie_link_width_max", 16, 16.0),
    "gpu_pcie_transmit_bytes_total": ("pcie_transmit_bytes", 1 << 50, float(1 << 50)),
    "gpu_pcie_receive_bytes_total": ("pcie_receive_bytes", 1 << 51, float(1 << 51)),
    "gpu_pcie_errors_correctable_total": ("pcie_correctable_errors", 3, 3.0),
    "gpu_pcie_errors_nonfatal_total": ("pcie_nonfatal_errors", 4, 4.0),
    "gpu_pcie_errors_fatal_total": ("pcie_fatal_errors", 5, 5.0),
    "gpu_nvlink_links": ("nvlink_count", 18, 18.0),
    "gpu_nvlink_links_active": ("nvlink_active_mask", 0x1FFFF, 17.0),
    "gpu_nvlink_replay_errors_total": ("nvlink_replay_errors", 21, 21.0),
    "gpu_nvlink_recovery_errors_total": ("nvlink_recovery_errors", 22, 22.0),
    "gpu_nvlink_crc_errors_total": ("nvlink_crc_errors", 23, 23.0),
    "gpu_fabric_state": ("fabric_state", 2, 2.0),
    "gpu_fabric_healthy": ("fabric_unhealthy", 1, 0.0),
    "gpu_recovery_action": ("gpu_recovery_action", 4, 4.0),
    "gpu_sm_active_ratio": ("gpm_sm_active_permille", 875, 0.875),
    "gpu_sm_occupancy_ratio": ("gpm_sm_occupancy_permille", 500, 0.5),
    "gpu_tensor_active_ratio": ("gpm_tensor_permille", 250, 0.25),
    "gpu_dram_active_ratio": ("gpm_dram_permille", 720, 0.72),
    "gpu_pcie_transmit_bytes_per_second": (
        "pcie_transmit_kilobytes_per_second",
        2048,
        2.0 * MIB,
    ),
    "gpu_pcie_receive_bytes_per_second": ("pcie_receive_kilobytes_per_second", 4096, 4.0 * MIB),
    "gpu_nvlink_receive_bytes_per_second": (
        "nvlink_receive_mebibytes_per_second",
        300,
        300.0 * MIB,
    ),
    "gpu_nvlink_transmit_bytes_per_second": (
        "nvlink_transmit_mebibytes_per_second",
        310,
        310.0 * MIB,
    ),
}


@pytest.fixture
def machine(tmp_path):
    """Make a profile's machine and the sampler that reads it."""
    states = []

    def make(name):
        wanted = profile.load(name)
        state = state_module.State.create(tmp_path / "state", len(wanted.gpus))
        wanted.write_to(state)
        states.append(state)
        try:
            env = libraries.environment(state.path, tmp_path)
        except libraries.NotBuiltError as error:
            pytest.skip(str(error))
        return state, NvmlSampler(SystemClock(), env=env)

    yield make
    for state in states:
        state.row.closed = 1
        state.close()


async def collect(nvml, is_enough):
    """Return GPUs and newest values by (GPU, signal), once there are enough."""
    values, gpus = {}, ()
    async with nvml:
        while not is_enough(values):
            batch = await nvml.sample(time.monotonic())
            gpus = batch.gpus or gpus
            values |= {(s.key.gpu, s.key.signal): s.value for s in batch.samples}
            await asyncio.sleep(0.02)
    return gpus, values


async def test_every_signal(machine):
    """Each signal is the state's own field, in the base unit."""
    state, nvml = machine("h100-sxm-x8")
    uuid = state.gpu(0).uuid.decode()
    for field, written, _ in BEHIND.values():
        setattr(state.gpu(0), field, written)
    _, values = await collect(nvml, lambda found: all((uuid, name) in found for name in BEHIND))

    assert {name: values[uuid, name] for name in BEHIND} == {
        name: expected for name, (_, _, expected) in BEHIND.items()
    }
    assert values[uuid, "gpu_nvml_call_seconds"] > 0.0


async def test_slow_call_outlives_the_next_turns_of_a_quicker_lane(machine):
    """ECC is asked for twice a minute; the calls of each second do not hide what that takes."""
    state, nvml = machine("l40s-x4")
    state.gpu(0).delay_groups = layout.CallGroup.ECC
    state.gpu(0).delay_microseconds = 50_000
    key = SeriesKey("gpu_nvml_call_seconds", gpu=state.gpu(0).uuid.decode())
    told = []
    async with nvml:
        while len(told) < 3:
            batch = await nvml.sample(time.monotonic())
            values = [sample.value for sample in batch.samples if sample.key == key]
            told = list(dropwhile(lambda value: value < 0.05, told + values))
            await asyncio.sleep(0.02)
    assert min(told) >= 0.05


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        pytest.param(
            "l40s-x4", {"gpu_nvlink_links", "gpu_fabric_state", "gpu_sm_active_ratio"}, id="L40S"
        ),
        pytest.param("rtx4090-x1", {"gpu_ecc_mode", "gpu_row_remap_pending"}, id="RTX 4090"),
        pytest.param("h100-mig-x1", {"gpu_utilization_ratio", "gpu_sm_active_ratio"}, id="MIG"),
    ],
)
async def test_what_a_product_lacks_is_absent(machine, name, lacks):
    """Not supported is named in the capability matrix and never read as zero."""
    state, nvml = machine(name)
    uuid = state.gpu(0).uuid.decode()
    gpus, values = await collect(
        nvml,
        lambda found: (
            {(uuid, "gpu_recovery_action"), (uuid, "gpu_power_draw_watts")} <= found.keys()
        ),
    )

    (unsupported,) = {gpu.unsupported for gpu in gpus}
    assert lacks <= unsupported
    assert not {signal for _, signal in values} & unsupported
    assert {signal for owner, signal in values if owner == uuid} & ALL_SIGNALS


async def test_mig_devices(machine):
    """A cut GPU has MIG devices, each with memory and activity; that of the whole is unknown."""
    state, nvml = machine("h100-mig-x1")
    first, second = state.gpu(0).mig_devices[0], state.gpu(0).mig_devices[1]
    assert state.take(0, os.getpid(), 512 * MIB, mig_device=2)
    second.gpm_sm_active_permille, second.gpm_sm_occupancy_permille = 640, 300
    second.gpm_tensor_permille, second.gpm_dram_permille = 250, 910
    first.gpm_sm_active_permille = 10
    busy = (second.uuid.decode(), "gpu_mig_sm_active_ratio")
    idle = (first.uuid.decode(), "gpu_mig_sm_active_ratio")
    gpus, values = await collect(nvml, lambda found: {busy, idle} <= found.keys())

    of_second = {name: value for (owner, name), value in values.items() if owner == busy[0]}
    assert of_second.pop("gpu_mig_memory_used_bytes") == 512.0 * MIB
    assert {name: round(value, 3) for name, value in of_second.items() if "ratio" in name} == {
        "gpu_mig_sm_active_ratio": 0.64,
        "gpu_mig_sm_occupancy_ratio": 0.3,
        "gpu_mig_tensor_active_ratio": 0.25,
        "gpu_mig_dram_active_ratio": 0.91,
    }
    assert round(values[idle], 3) == 0.01
    assert [each.gpu_instance for each in gpus[0].mig] == [2, 3, 9, 10]
    assert gpus[0].mig[1].uuid == second.uuid.decode()
    assert (gpus[0].uuid, "gpu_sm_active_ratio") not in values
    assert (gpus[0].uuid, "gpu_utilization_ratio") not in values


async def test_where_in_a_gpu_that_is_cut_a_process_is(machine):
    """It belongs to the card, and to the MIG device that it was started in."""
    state, nvml = machine("h100-mig-x1")
    assert state.take(0, os.getpid(), 512 * MIB, mig_device=2)
    card, second = state.gpu(0).uuid.decode(), state.gpu(0).mig_devices[1].uuid.decode()
    found = ()
    async with nvml:
        while not found:
            found = (await nvml.sample(time.monotonic())).processes or ()
            await asyncio.sleep(0.02)

    assert [(p.gpus, p.slices) for p in found] == [((card,), (second,))]


async def test_process_utilization(machine):
    """How busy each process keeps the GPU is the process's own series."""
    state, nvml = machine("h100-sxm-x8")
    state.take(0, os.getpid(), MIB)
    state.set_utilization(0, os.getpid(), sm_percent=64)
    key = (state.gpu(0).uuid.decode(), "process_gpu_utilization_ratio")
    _, values = await collect(nvml, lambda found: key in found)

    assert values[key] == 0.64
