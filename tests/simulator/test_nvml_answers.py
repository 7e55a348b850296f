"""What nvidia-ml-py reads from the two profiles, call by call."""

import pytest

pytestmark = pytest.mark.simulator

MIB = 1 << 20
FIELD = "[(value.nvmlReturn, value.valueType) for value in nvmlDeviceGetFieldValues(gpu(), [{}])]"

H100 = {
    "nvmlSystemGetDriverVersion()": "580.95.05",
    "nvmlSystemGetNVMLVersion()": "13.580.95.05",
    "nvmlSystemGetCudaDriverVersion_v2()": 13000,
    "nvmlDeviceGetCount()": 8,
    "nvmlDeviceGetName(gpu())": "NVIDIA H100 80GB HBM3",
    "nvmlDeviceGetUUID(gpu(7))": "GPU-3c0f2b5e-7a41-4d86-9e12-5b8d40a6c107",
    "nvmlDeviceGetSerial(gpu(1))": "1652622031502",
    "nvmlDeviceGetIndex(gpu(5))": 5,
    "nvmlDeviceGetMinorNumber(gpu(5))": 5,
    "nvmlDeviceGetBoardPartNumber(gpu())": "692-2G520-0200-000",
    "nvmlDeviceGetVbiosVersion(gpu())": "96.00.74.00.01",
    "nvmlDeviceGetPciInfo(gpu()).busId": "00000000:1B:00.0",
    "nvmlDeviceGetPciInfo(gpu()).busIdLegacy": "0000:1B:00.0",
    "nvmlDeviceGetPciInfo(gpu()).pciDeviceId": 0x233010DE,
    "nvmlDeviceGetBrand(gpu())": 14,
    "nvmlDeviceGetArchitecture(gpu())": 9,
    "nvmlDeviceGetCudaComputeCapability(gpu())": (9, 0),
    "nvmlDeviceGetNumGpuCores(gpu())": 16896,
    "nvmlDeviceGetMemoryInfo(gpu()).total": 81559 * MIB,
    "nvmlDeviceGetMemoryInfo(gpu()).used": 479 * MIB,
    "nvmlDeviceGetMemoryInfo(gpu(), version=nvmlMemory_v2).used": 0,
    "nvmlDeviceGetMemoryInfo(gpu(), version=nvmlMemory_v2).reserved": 479 * MIB,
    "nvmlDeviceGetBAR1MemoryInfo(gpu()).bar1Total": 128 << 30,
    "nvmlDeviceGetUtilizationRates(gpu()).gpu": 0,
    "nvmlDeviceGetEncoderUtilization(gpu())": [0, 167000],
    "nvmlDeviceGetTemperature(gpu(), 0)": 31,
    "nvmlDeviceGetTemperatureV(gpu(), 0)": 31,
    "nvmlDeviceGetTemperatureThreshold(gpu(), 1)": 89,
    "nvmlDeviceGetTemperatureThreshold(gpu(), 5)": "NotSupported",
    "nvmlDeviceGetMarginTemperature(gpu())": 56,
    "nvmlDeviceGetPowerUsage(gpu())": 71000,
    "nvmlDeviceGetEnforcedPowerLimit(gpu())": 700000,
    "nvmlDeviceGetPowerManagementLimitConstraints(gpu())": [200000, 700000],
    "nvmlDeviceGetClockInfo(gpu(), NVML_CLOCK_SM)": 345,
    "nvmlDeviceGetMaxClockInfo(gpu(), NVML_CLOCK_SM)": 1980,
    "nvmlDeviceGetClockInfo(gpu(), NVML_CLOCK_MEM)": 2619,
    "nvmlDeviceGetCurrentClocksEventReasons(gpu())": 1,
    "nvmlDeviceGetSupportedClocksEventReasons(gpu())": 511,
    "nvmlDeviceGetPerformanceState(gpu())": 0,
    "nvmlDeviceGetPersistenceMode(gpu())": 1,
    "nvmlDeviceGetEccMode(gpu())": [1, 1],
    "nvmlDeviceGetTotalEccErrors(gpu(), 1, 0)": 0,
    "nvmlDeviceGetMemoryErrorCounter(gpu(), 1, 0, 2)": 0,
    "nvmlDeviceGetMemoryErrorCounter(gpu(), 1, 0, 3)": "NotSupported",
    "nvmlDeviceGetRemappedRows(gpu())": (0, 0, 0, 0),
    "nvmlDeviceGetRowRemapperHistogram(gpu()).max": 2560,
    "nvmlDeviceGetCurrPcieLinkGeneration(gpu())": 5,
    "nvmlDeviceGetCurrPcieLinkWidth(gpu())": 16,
    "nvmlDeviceGetPcieReplayCounter(gpu())": 0,
    "nvmlDeviceGetNumFans(gpu())": 0,
    "nvmlDeviceGetFanSpeed(gpu())": "NotSupported",
    "nvmlDeviceGetMigMode(gpu())": [0, 0],
    "nvmlDeviceGetNvLinkState(gpu(), 17)": 1,
    "nvmlDeviceGetNvLinkState(gpu(), 18)": "InvalidArgument",
    "nvmlDeviceGetNvLinkVersion(gpu(), 0)": 4,
    "nvmlDeviceGetTopologyCommonAncestor(gpu(0), gpu(1))": 40,
    "nvmlDeviceGetTopologyCommonAncestor(gpu(0), gpu(4))": 50,
    "nvmlDeviceGetP2PStatus(gpu(0), gpu(1), 2)": 0,
    "nvmlDeviceGetDriverModel(gpu())": "NotSupported",
    "nvmlDeviceGetRetiredPagesPendingStatus(gpu())": "NotSupported",
    FIELD.format("NVML_FI_DEV_MEMORY_TEMP"): [(0, 1)],
    FIELD.format("4, 9999"): [(0, 3), (3, 0)],
    "nvmlDeviceGetFieldValues(gpu(), [82])[0].value.uiVal": 42,
    "nvmlDeviceGetFieldValues(gpu(), [194])[0].value.siVal": -2,
    "nvmlDeviceGetFieldValues(gpu(), [230])[0].value.uiVal": 0,
    "nvmlDeviceGetHandleByUUID('GPU-nobody')": "NotFound",
    "nvmlDeviceGetIndex(nvmlDeviceGetHandleByPciBusId('0000:DF:00.0'))": 7,
    "nvmlDeviceGetIndex(nvmlDeviceGetHandleBySerial('1652622031503'))": 2,
    "nvmlDeviceGetHandleByIndex(8)": "InvalidArgument",
    "nvmlErrorString(15)": "GPU is lost",
    "nvmlErrorString(999)": "Unknown Error",
}

RTX4090 = {
    "nvmlDeviceGetCount()": 1,
    "nvmlDeviceGetName(gpu())": "NVIDIA GeForce RTX 4090",
    "nvmlDeviceGetMemoryInfo(gpu()).total": 24564 * MIB,
    "nvmlDeviceGetSerial(gpu())": "NotSupported",
    "nvmlDeviceGetBoardPartNumber(gpu())": "NotSupported",
    "nvmlDeviceGetEccMode(gpu())": "NotSupported",
    "nvmlDeviceGetTotalEccErrors(gpu(), 1, 0)": "NotSupported",
    # It answers, and means nothing by it.
    "nvmlDeviceGetRemappedRows(gpu())": (0, 0, 0, 0),
    "nvmlDeviceGetMigMode(gpu())": "NotSupported",
    "nvmlDeviceGetNvLinkState(gpu(), 0)": "NotSupported",
    "nvmlDeviceGetFanSpeed(gpu())": 30,
    "nvmlDeviceGetFanSpeed_v2(gpu(), 2)": "InvalidArgument",
    "nvmlDeviceGetNumFans(gpu())": 2,
    "nvmlDeviceGetPerformanceState(gpu())": 8,
    "nvmlDeviceGetCurrPcieLinkGeneration(gpu())": 1,
    "nvmlDeviceGetMaxPcieLinkGeneration(gpu())": 4,
    FIELD.format("NVML_FI_DEV_MEMORY_TEMP, 3"): [(3, 0), (3, 0)],
}


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        pytest.param("h100-sxm-x8", H100, id="h100"),
        pytest.param("rtx4090-x1", RTX4090, id="rtx4090"),
    ],
)
def test_answers(make_state, asker, name, answers):
    """Each profile answers as the product does, and says "not supported" where it has nothing."""
    asked = asker(make_state(name))

    assert {expression: asked.ask(expression) for expression in answers} == answers


@pytest.mark.parametrize(
    ("field", "value", "expression"),
    [
        ("temperature_celsius", 88, "nvmlDeviceGetTemperature(gpu(2), 0)"),
        ("power_draw_milliwatts", 650_000, "nvmlDeviceGetPowerUsage(gpu(2))"),
        ("clocks_event_reasons", 0x48, "nvmlDeviceGetCurrentClocksThrottleReasons(gpu(2))"),
        ("sm_clock_megahertz", 1200, "nvmlDeviceGetClock(gpu(2), NVML_CLOCK_SM, 0)"),
        ("ecc_volatile_uncorrected_sram", 3, "nvmlDeviceGetTotalEccErrors(gpu(2), 1, 0)"),
        ("ecc_aggregate_corrected_dram", 9, "nvmlDeviceGetTotalEccErrors(gpu(2), 0, 1)"),
        ("remapped_rows_pending", 1, "nvmlDeviceGetRemappedRows(gpu(2))[2]"),
        ("pcie_link_width", 8, "nvmlDeviceGetCurrPcieLinkWidth(gpu(2))"),
        ("energy_millijoules", 1 << 40, "nvmlDeviceGetTotalEnergyConsumption(gpu(2))"),
        ("gpu_recovery_action", 2, "nvmlDeviceGetFieldValues(gpu(2), [230])[0].value.uiVal"),
        (
            "hw_thermal_slowdown_nanoseconds",
            5,
            "nvmlDeviceGetFieldValues(gpu(2), [270])[0].value.ullVal",
        ),
    ],
)
def test_changes_are_seen_at_once(state, h100, field, value, expression):
    """A field of the state is what the next call returns, on that GPU only."""
    setattr(state.gpu(2), field, value)

    assert h100.ask(expression) == value
    assert h100.ask(expression.replace("gpu(2)", "gpu(3)")) != value
