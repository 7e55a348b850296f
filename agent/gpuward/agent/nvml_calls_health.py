"""NVML calls about a GPU's health, rows of the table in ``nvml_calls``: memory, links, InfoROM."""

from __future__ import annotations

import ctypes
from typing import Any

from gpuward.agent.nvml_call import Call, Lane, item, nano
from gpuward.agent.nvml_conditions import (
    ARGUMENT_VERSION_MISMATCH,
    DEVICE_LOST,
    DRIVER_GONE,
    UNSUPPORTED,
)

ECC_CORRECTED = 0
ECC_UNCORRECTED = 1
ECC_SINCE_LOAD = 0
ECC_IN_LIFE = 1
LOCATION_DRAM = 2
LOCATION_SRAM = 7
THERMAL_POLICY = 1
RETIRED_FOR_SINGLE_BITS, RETIRED_FOR_DOUBLE_BIT = 0, 1
CORRUPTED_INFOROM = 14
INVALID_ARGUMENT = 2
# NVML_NVLINK_MAX_LINKS since driver 590; older ones refuse links that they do not have.
MOST_LINKS = 36
LINK_REPLAY, LINK_RECOVERY, LINK_CRC = 0, 1, 2
FABRIC_HEALTHY = 1
FABRIC_HEALTH_UNKNOWN = 0


class SramStatus(ctypes.Structure):
    """nvmlEccSramErrorStatus_v1_t, which the binding does not define."""

    _fields_ = (
        ("version", ctypes.c_uint),
        # Eleven counters by kind and place, of which the threshold is what counts.
        ("counters", ctypes.c_ulonglong * 11),
        ("is_threshold_exceeded", ctypes.c_uint),
    )


def read_sram_status(nvml: Any, handle: Any) -> bool:
    """Return whether SRAM errors have passed the threshold of a field diagnosis."""
    # NVML's versions are the structure's size with the number in the top byte.
    status = SramStatus(version=ctypes.sizeof(SramStatus) | 1 << 24)
    nvml.nvmlDeviceGetSramEccErrorStatus(handle, ctypes.byref(status))
    return bool(status.is_threshold_exceeded)


def read_inforom(nvml: Any, handle: Any) -> bool:
    """Return whether the InfoROM is valid; that it is corrupted comes as an error."""
    try:
        nvml.nvmlDeviceValidateInforom(handle)
    except nvml.NVMLError as error:
        if error.value == CORRUPTED_INFOROM:
            return False
        raise
    return True


class UnrepairableMemory(ctypes.Structure):
    """nvmlUnrepairableMemoryStatus_v1_t: the flag is first in the header, second in the binding.

    A driver of either kind is understood: one of the binding's leaves the version as it was.
    """

    _fields_ = (("version_or_flag", ctypes.c_uint), ("flag", ctypes.c_uint))


def read_unrepairable(nvml: Any, handle: Any) -> bool:
    """Return whether there is memory that no row can replace any more."""
    version = ctypes.sizeof(UnrepairableMemory) | 1 << 24
    status = UnrepairableMemory(version)
    # Not by the binding's function, which would read a bad GPU as good by the header's layout.
    call = nvml._nvmlGetFunctionPointer("nvmlDeviceGetUnrepairableMemoryFlag_v1")  # noqa: SLF001
    code = call(handle, ctypes.byref(status))
    if code != 0:
        raise nvml.NVMLError(code)
    return bool(status.flag if status.version_or_flag == version else status.version_or_flag)


def read_retired_pages(nvml: Any, handle: Any) -> tuple[int, int]:
    """Return how many pages were retired for single-bit and for double-bit errors."""
    single_bit = nvml.nvmlDeviceGetRetiredPages(handle, RETIRED_FOR_SINGLE_BITS)
    return len(single_bit), len(nvml.nvmlDeviceGetRetiredPages(handle, RETIRED_FOR_DOUBLE_BIT))


def read_remapped_rows(nvml: Any, handle: Any) -> Any:
    """Return counts of rows; raises what a card without ECC says of ECC.

    Such a card may answer for rows too, by which it means nothing (gpud, of the RTX 4090).
    """
    nvml.nvmlDeviceGetEccMode(handle)
    return nvml.nvmlDeviceGetRemappedRows(handle)


def read_links(nvml: Any, handle: Any) -> dict[str, int]:
    """Return how many NVLink links there are and are up, and their errors summed.

    Raises what the first link raises; a counter that a link does not have is absent.
    """
    found = {"links": 0, "active": 0}
    for link in range(MOST_LINKS):
        try:
            is_active = nvml.nvmlDeviceGetNvLinkState(handle, link)
        except nvml.NVMLError as error:
            if link == 0 or error.value in DEVICE_LOST | DRIVER_GONE:
                raise
            break
        found["links"] += 1
        found["active"] += int(is_active)
        if is_active:
            _add_errors(nvml, handle, link, found)
    return found


def _add_errors(nvml: Any, handle: Any, link: int, found: dict[str, int]) -> None:
    for name, counter in (("replay", LINK_REPLAY), ("recovery", LINK_RECOVERY), ("crc", LINK_CRC)):
        try:
            count = nvml.nvmlDeviceGetNvLinkErrorCounter(handle, link, counter)
        except nvml.NVMLError as error:
            if error.value not in UNSUPPORTED | {INVALID_ARGUMENT}:
                raise
            continue
        found[name] = found.get(name, 0) + count


def read_fabric(nvml: Any, handle: Any) -> tuple[int, int]:
    """Return the fabric's state and the summary of its health, 0 where none is told."""
    info = nvml.c_nvmlGpuFabricInfo_v3_t()
    try:
        nvml.nvmlDeviceGetGpuFabricInfoV(handle, ctypes.byref(info))
    except nvml.NVMLError as error:
        if error.value != ARGUMENT_VERSION_MISMATCH:
            raise
        info = nvml.c_nvmlGpuFabricInfo_v2_t()
        nvml.nvmlDeviceGetGpuFabricInfoV(handle, ctypes.byref(info))
    return info.state, getattr(info, "healthSummary", FABRIC_HEALTH_UNKNOWN)


def _is_healthy(summary: int) -> float | None:
    return None if summary == FABRIC_HEALTH_UNKNOWN else float(summary == FABRIC_HEALTHY)


def _ecc(signal: str, error: int, counter: int) -> Call:
    return Call("nvmlDeviceGetTotalEccErrors", Lane.SLOW, {signal: float}, (error, counter))


def _ecc_at(signal: str, error: int, location: int) -> Call:
    arguments = (error, ECC_SINCE_LOAD, location)
    return Call("nvmlDeviceGetMemoryErrorCounter", Lane.SLOW, {signal: float}, arguments)


HEALTH = (
    Call("nvmlDeviceGetEccMode", Lane.SLOW, {"gpu_ecc_mode": item(0)}),
    _ecc("gpu_ecc_corrected_total", ECC_CORRECTED, ECC_SINCE_LOAD),
    _ecc("gpu_ecc_uncorrected_total", ECC_UNCORRECTED, ECC_SINCE_LOAD),
    _ecc("gpu_ecc_aggregate_corrected_total", ECC_CORRECTED, ECC_IN_LIFE),
    _ecc("gpu_ecc_aggregate_uncorrected_total", ECC_UNCORRECTED, ECC_IN_LIFE),
    _ecc_at("gpu_ecc_dram_corrected_total", ECC_CORRECTED, LOCATION_DRAM),
    _ecc_at("gpu_ecc_dram_uncorrected_total", ECC_UNCORRECTED, LOCATION_DRAM),
    _ecc_at("gpu_ecc_sram_corrected_total", ECC_CORRECTED, LOCATION_SRAM),
    _ecc_at("gpu_ecc_sram_uncorrected_total", ECC_UNCORRECTED, LOCATION_SRAM),
    Call(
        "nvmlDeviceGetSramEccErrorStatus",
        Lane.SLOW,
        {"gpu_ecc_sram_threshold_exceeded": float},
        read=read_sram_status,
    ),
    Call(
        "nvmlDeviceGetRemappedRows",
        Lane.SLOW,
        {
            "gpu_remapped_rows_corrected": item(0),
            "gpu_remapped_rows_uncorrected": item(1),
            "gpu_row_remap_pending": item(2),
            "gpu_row_remap_failed": item(3),
        },
        read=read_remapped_rows,
    ),
    Call(
        "nvmlDeviceGetRowRemapperHistogram",
        Lane.SLOW,
        {
            "gpu_row_remap_banks_partial": lambda banks: float(banks.partial),
            "gpu_row_remap_banks_exhausted": lambda banks: float(banks.none),
        },
    ),
    Call(
        "nvmlDeviceGetUnrepairableMemoryFlag_v1",
        Lane.SLOW,
        {"gpu_memory_unrepairable": float},
        read=read_unrepairable,
    ),
    Call(
        "nvmlDeviceGetRetiredPages",
        Lane.SLOW,
        {
            "gpu_retired_pages": lambda pages: float(sum(pages)),
            "gpu_retired_pages_double_bit": item(1),
        },
        read=read_retired_pages,
    ),
    Call("nvmlDeviceGetRetiredPagesPendingStatus", Lane.SLOW, {"gpu_retired_pages_pending": float}),
    Call(
        "nvmlDeviceGetRepairStatus",
        Lane.SLOW,
        {"gpu_repair_pending": lambda pending: float(any(pending))},
    ),
    Call("nvmlDeviceValidateInforom", Lane.SLOW, {"gpu_inforom_valid": float}, read=read_inforom),
    Call(
        "nvmlDeviceGetViolationStatus",
        Lane.SLOW,
        {"gpu_violation_thermal_seconds_total": lambda time: nano(time.violationTime)},
        (THERMAL_POLICY,),
    ),
    Call("nvmlDeviceGetCurrPcieLinkGeneration", Lane.MEDIUM, {"gpu_pcie_link_generation": float}),
    Call("nvmlDeviceGetCurrPcieLinkWidth", Lane.MEDIUM, {"gpu_pcie_link_width": float}),
    Call("nvmlDeviceGetMaxPcieLinkGeneration", Lane.SLOW, {"gpu_pcie_link_generation_max": float}),
    Call("nvmlDeviceGetMaxPcieLinkWidth", Lane.SLOW, {"gpu_pcie_link_width_max": float}),
    Call("nvmlDeviceGetPcieReplayCounter", Lane.SLOW, {"gpu_pcie_replays_total": float}),
    Call(
        "nvmlDeviceGetNvLinkState",
        Lane.SLOW,
        {
            "gpu_nvlink_links": lambda found: float(found["links"]),
            "gpu_nvlink_links_active": lambda found: float(found["active"]),
            "gpu_nvlink_replay_errors_total": lambda found: found.get("replay"),
            "gpu_nvlink_recovery_errors_total": lambda found: found.get("recovery"),
            "gpu_nvlink_crc_errors_total": lambda found: found.get("crc"),
        },
        read=read_links,
    ),
    Call(
        "nvmlDeviceGetGpuFabricInfoV",
        Lane.SLOW,
        {
            "gpu_fabric_state": item(0),
            "gpu_fabric_healthy": lambda found: _is_healthy(found[1]),
        },
        read=read_fabric,
    ),
)
