// NVML: nvmlDeviceGetFieldValues, one table row per field.
#include "nvml_session.h"

using namespace gpuward::simulator;

namespace {

// since: the driver's major version from which the number means this.
struct Field {
    unsigned int id;
    nvmlValueType_t type;
    std::uint64_t capability;
    long long (*read)(const Gpu&);
    unsigned int since = 0;
};

constexpr nvmlValueType_t U32 = NVML_VALUE_TYPE_UNSIGNED_INT;
constexpr nvmlValueType_t U64 = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
constexpr nvmlValueType_t I32 = NVML_VALUE_TYPE_SIGNED_INT;

template <auto Member>
long long get(const Gpu& gpu) {
    return static_cast<long long>(load(gpu.*Member));
}

template <auto First, auto Second>
long long sum(const Gpu& gpu) {
    return get<First>(gpu) + get<Second>(gpu);
}

// Limits of the thermal margin count down to, and below, the maximum operating temperature.
template <auto Member>
long long margin(const Gpu& gpu) {
    return get<&Gpu::temperature_gpu_max_celsius>(gpu) - get<Member>(gpu);
}

// clang-format off
constexpr Field FIELDS[] = {
    {NVML_FI_DEV_ECC_CURRENT, U32, HAS_ECC, get<&Gpu::ecc_mode_current>},
    {NVML_FI_DEV_ECC_PENDING, U32, HAS_ECC, get<&Gpu::ecc_mode_pending>},
    {NVML_FI_DEV_ECC_SBE_VOL_TOTAL, U64, HAS_ECC, sum<&Gpu::ecc_volatile_corrected_dram, &Gpu::ecc_volatile_corrected_sram>},
    {NVML_FI_DEV_ECC_DBE_VOL_TOTAL, U64, HAS_ECC, sum<&Gpu::ecc_volatile_uncorrected_dram, &Gpu::ecc_volatile_uncorrected_sram>},
    {NVML_FI_DEV_ECC_SBE_AGG_TOTAL, U64, HAS_ECC, sum<&Gpu::ecc_aggregate_corrected_dram, &Gpu::ecc_aggregate_corrected_sram>},
    {NVML_FI_DEV_ECC_DBE_AGG_TOTAL, U64, HAS_ECC, sum<&Gpu::ecc_aggregate_uncorrected_dram, &Gpu::ecc_aggregate_uncorrected_sram>},
    {NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP, U64, 0, get<&Gpu::sw_power_cap_nanoseconds>},
    {NVML_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST, U64, 0, get<&Gpu::sync_boost_nanoseconds>},
    {NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN, U64, 0, get<&Gpu::sw_thermal_slowdown_nanoseconds>, 580},
    {NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN, U64, 0, get<&Gpu::hw_thermal_slowdown_nanoseconds>, 580},
    {NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN, U64, 0, get<&Gpu::hw_power_brake_nanoseconds>, 580},
    {NVML_FI_DEV_MEMORY_TEMP, U32, HAS_MEMORY_TEMPERATURE, get<&Gpu::memory_temperature_celsius>},
    {NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, U64, 0, get<&Gpu::energy_millijoules>},
    {NVML_FI_DEV_ENERGY, U64, 0, get<&Gpu::energy_millijoules>},
    {NVML_FI_DEV_NVLINK_LINK_COUNT, U32, HAS_NVLINK, get<&Gpu::nvlink_count>},
    {NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY, U64, HAS_NVLINK, get<&Gpu::nvlink_replay_errors>},
    {NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY, U64, HAS_NVLINK, get<&Gpu::nvlink_recovery_errors>},
    {NVML_FI_DEV_NVLINK_ERROR_DL_CRC, U64, HAS_NVLINK, get<&Gpu::nvlink_crc_errors>},
    {NVML_FI_DEV_PCIE_REPLAY_COUNTER, U32, 0, get<&Gpu::pcie_replay_count>},
    {NVML_FI_DEV_PCIE_REPLAY_ROLLOVER_COUNTER, U32, 0, get<&Gpu::pcie_replay_rollovers>},
    {NVML_FI_DEV_PCIE_COUNT_CORRECTABLE_ERRORS, U32, HAS_ECC, get<&Gpu::pcie_correctable_errors>},
    {NVML_FI_DEV_PCIE_COUNT_NON_FATAL_ERROR, U32, HAS_ECC, get<&Gpu::pcie_nonfatal_errors>},
    {NVML_FI_DEV_PCIE_COUNT_FATAL_ERROR, U32, HAS_ECC, get<&Gpu::pcie_fatal_errors>},
    {NVML_FI_DEV_PCIE_COUNT_TX_BYTES, U64, 0, get<&Gpu::pcie_transmit_bytes>},
    {NVML_FI_DEV_PCIE_COUNT_RX_BYTES, U64, 0, get<&Gpu::pcie_receive_bytes>},
    {NVML_FI_DEV_REMAPPED_COR, U32, HAS_ROW_REMAPPING, get<&Gpu::remapped_rows_corrected>},
    {NVML_FI_DEV_REMAPPED_UNC, U32, HAS_ROW_REMAPPING, get<&Gpu::remapped_rows_uncorrected>},
    {NVML_FI_DEV_REMAPPED_PENDING, U32, HAS_ROW_REMAPPING, get<&Gpu::remapped_rows_pending>},
    {NVML_FI_DEV_REMAPPED_FAILURE, U32, HAS_ROW_REMAPPING, get<&Gpu::remapped_rows_failure>},
    {NVML_FI_DEV_POWER_AVERAGE, U32, 0, get<&Gpu::power_draw_milliwatts>},
    {NVML_FI_DEV_POWER_INSTANT, U32, 0, get<&Gpu::power_draw_milliwatts>},
    {NVML_FI_DEV_POWER_MIN_LIMIT, U32, 0, get<&Gpu::power_limit_min_milliwatts>},
    {NVML_FI_DEV_POWER_MAX_LIMIT, U32, 0, get<&Gpu::power_limit_max_milliwatts>},
    {NVML_FI_DEV_POWER_DEFAULT_LIMIT, U32, 0, get<&Gpu::power_limit_default_milliwatts>},
    {NVML_FI_DEV_POWER_CURRENT_LIMIT, U32, 0, get<&Gpu::power_limit_enforced_milliwatts>},
    {NVML_FI_DEV_POWER_REQUESTED_LIMIT, U32, 0, get<&Gpu::power_limit_milliwatts>},
    {NVML_FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT, I32, HAS_THERMAL_MARGIN, margin<&Gpu::temperature_shutdown_celsius>},
    {NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT, I32, HAS_THERMAL_MARGIN, margin<&Gpu::temperature_slowdown_celsius>},
    {NVML_FI_DEV_TEMPERATURE_MEM_MAX_TLIMIT, I32, HAS_THERMAL_MARGIN, margin<&Gpu::temperature_memory_max_celsius>},
    {NVML_FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT, I32, HAS_THERMAL_MARGIN, margin<&Gpu::temperature_gpu_max_celsius>},
    {NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, U32, 0, get<&Gpu::gpu_recovery_action>},
};
// clang-format on

const Field* find(unsigned int id) {
    for (const Field& field : FIELDS) {
        if (field.id == id) {
            return &field;
        }
    }
    return nullptr;
}

bool is_supported(const Gpu& gpu, const Field& field) {
    const bool is_of_rows =
        field.id >= NVML_FI_DEV_REMAPPED_COR && field.id <= NVML_FI_DEV_REMAPPED_FAILURE;
    return has(gpu, field.capability) && driver_is_at_least(field.since) &&
           (!is_of_rows || load(gpu.mig_device_count) == 0);
}

void fill(const Gpu& gpu, nvmlFieldValue_t& value) {
    value.timestamp = now_microseconds();
    value.latencyUsec = 1;
    const Field* field = find(value.fieldId);
    if (field == nullptr || !is_supported(gpu, *field)) {
        value.nvmlReturn = NVML_ERROR_NOT_SUPPORTED;
        return;
    }
    value.nvmlReturn = NVML_SUCCESS;
    value.valueType = field->type;
    value.value = {};
    // The union is little endian: a 32-bit member reads the low half.
    value.value.sllVal = field->read(gpu);
}

}  // namespace

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t* values) {
    return answer(
        device, CALLS_FIELD,
        [=](const Gpu& gpu) {
            if (count <= 0) {
                return NVML_ERROR_INVALID_ARGUMENT;
            }
            for (int index = 0; index < count; ++index) {
                fill(gpu, values[index]);
            }
            return NVML_SUCCESS;
        },
        values);
}
