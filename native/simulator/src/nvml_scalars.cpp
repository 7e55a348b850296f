// NVML calls that copy one field of a GPU: one table row each.
#include "nvml_session.h"

using namespace gpuward::simulator;

namespace {

template <auto Field, typename Output>
nvmlReturn_t copy(nvmlDevice_t device, std::uint64_t group, std::uint64_t capability,
                  Output* output) {
    return answer(
        device, group,
        [=](const Gpu& gpu) {
            if (!has(gpu, capability)) {
                return NVML_ERROR_NOT_SUPPORTED;
            }
            *output = static_cast<Output>(load(gpu.*Field));
            return NVML_SUCCESS;
        },
        output);
}

// A MIG device has a name and a UUID of its own.
template <auto Field, auto MigField>
nvmlReturn_t copy_name(nvmlDevice_t device, char* buffer, unsigned int length) {
    return answer_part(device, CALLS_IDENTITY, [=](const Gpu& gpu, const MigDevice* mig) {
        return write_text(buffer, length, mig == nullptr ? gpu.*Field : mig->*MigField);
    });
}

// An empty text means that this product has none.
template <auto Field>
nvmlReturn_t copy_text(nvmlDevice_t device, char* buffer, unsigned int length) {
    return answer(device, CALLS_IDENTITY, [=](const Gpu& gpu) {
        const char* text = gpu.*Field;
        return *text == '\0' ? NVML_ERROR_NOT_SUPPORTED : write_text(buffer, length, text);
    });
}

constexpr std::uint64_t ALWAYS = 0;

}  // namespace

#define SCALAR(function, output, group, capability, field)          \
    nvmlReturn_t function(nvmlDevice_t device, output* value) {     \
        return copy<&Gpu::field>(device, group, capability, value); \
    }
#define TEXT(function, field)                                                       \
    nvmlReturn_t function(nvmlDevice_t device, char* buffer, unsigned int length) { \
        return copy_text<&Gpu::field>(device, buffer, length);                      \
    }

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char* buffer, unsigned int length) {
    return copy_name<&Gpu::name, &MigDevice::name>(device, buffer, length);
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char* buffer, unsigned int length) {
    return copy_name<&Gpu::uuid, &MigDevice::uuid>(device, buffer, length);
}

// clang-format off
TEXT(nvmlDeviceGetSerial, serial)
TEXT(nvmlDeviceGetVbiosVersion, vbios_version)
TEXT(nvmlDeviceGetBoardPartNumber, board_part_number)

SCALAR(nvmlDeviceGetMinorNumber, unsigned int, CALLS_IDENTITY, ALWAYS, minor_number)
SCALAR(nvmlDeviceGetModuleId, unsigned int, CALLS_IDENTITY, ALWAYS, minor_number)
SCALAR(nvmlDeviceGetNumaNodeId, unsigned int, CALLS_IDENTITY, ALWAYS, numa_node)
SCALAR(nvmlDeviceGetBrand, nvmlBrandType_t, CALLS_IDENTITY, ALWAYS, brand)
SCALAR(nvmlDeviceGetArchitecture, nvmlDeviceArchitecture_t, CALLS_IDENTITY, ALWAYS, architecture)
SCALAR(nvmlDeviceGetNumGpuCores, unsigned int, CALLS_IDENTITY, ALWAYS, core_count)
SCALAR(nvmlDeviceGetMemoryBusWidth, unsigned int, CALLS_IDENTITY, ALWAYS, memory_bus_width_bits)
SCALAR(nvmlDeviceGetPersistenceMode, nvmlEnableState_t, CALLS_IDENTITY, ALWAYS, persistence_mode)
SCALAR(nvmlDeviceGetComputeMode, nvmlComputeMode_t, CALLS_IDENTITY, ALWAYS, compute_mode)
SCALAR(nvmlDeviceGetDisplayActive, nvmlEnableState_t, CALLS_IDENTITY, ALWAYS, display_active)
SCALAR(nvmlDeviceGetDisplayMode, nvmlEnableState_t, CALLS_IDENTITY, ALWAYS, display_active)

SCALAR(nvmlDeviceGetPowerUsage, unsigned int, CALLS_POWER, ALWAYS, power_draw_milliwatts)
SCALAR(nvmlDeviceGetPowerManagementLimit, unsigned int, CALLS_POWER, ALWAYS, power_limit_milliwatts)
SCALAR(nvmlDeviceGetEnforcedPowerLimit, unsigned int, CALLS_POWER, ALWAYS, power_limit_enforced_milliwatts)
SCALAR(nvmlDeviceGetPowerManagementDefaultLimit, unsigned int, CALLS_POWER, ALWAYS, power_limit_default_milliwatts)
SCALAR(nvmlDeviceGetTotalEnergyConsumption, unsigned long long, CALLS_POWER, ALWAYS, energy_millijoules)

SCALAR(nvmlDeviceGetPerformanceState, nvmlPstates_t, CALLS_CLOCK, ALWAYS, performance_state)
SCALAR(nvmlDeviceGetPowerState, nvmlPstates_t, CALLS_CLOCK, ALWAYS, performance_state)
SCALAR(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, CALLS_CLOCK, ALWAYS, clocks_event_reasons)
SCALAR(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, CALLS_CLOCK, ALWAYS, clocks_event_reasons)
SCALAR(nvmlDeviceGetSupportedClocksEventReasons, unsigned long long, CALLS_CLOCK, ALWAYS, clocks_event_reasons_supported)
SCALAR(nvmlDeviceGetSupportedClocksThrottleReasons, unsigned long long, CALLS_CLOCK, ALWAYS, clocks_event_reasons_supported)

SCALAR(nvmlDeviceGetCurrPcieLinkGeneration, unsigned int, CALLS_LINK, ALWAYS, pcie_link_generation)
SCALAR(nvmlDeviceGetMaxPcieLinkGeneration, unsigned int, CALLS_LINK, ALWAYS, pcie_link_generation_max)
SCALAR(nvmlDeviceGetGpuMaxPcieLinkGeneration, unsigned int, CALLS_LINK, ALWAYS, pcie_link_generation_max)
SCALAR(nvmlDeviceGetCurrPcieLinkWidth, unsigned int, CALLS_LINK, ALWAYS, pcie_link_width)
SCALAR(nvmlDeviceGetMaxPcieLinkWidth, unsigned int, CALLS_LINK, ALWAYS, pcie_link_width_max)
SCALAR(nvmlDeviceGetPcieReplayCounter, unsigned int, CALLS_LINK, ALWAYS, pcie_replay_count)
SCALAR(nvmlDeviceGetNumFans, unsigned int, CALLS_TEMPERATURE, ALWAYS, fan_count)
// clang-format on
