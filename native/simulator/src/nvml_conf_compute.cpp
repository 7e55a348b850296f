// NVML: confidential computing, which the whole node does or does not.
#include "nvml_session.h"

using namespace gpuward::simulator;

namespace {

// nvmlDeviceArchitecture_t: older cards cannot.
constexpr std::uint32_t HOPPER = 9;

bool any_gpu(const State& state, bool (*is_so)(const Gpu&)) {
    for (std::uint32_t index = 0; index < load(state.gpu_count); ++index) {
        if (is_so(state.gpus[index])) {
            return true;
        }
    }
    return false;
}

bool is_capable(const Gpu& gpu) { return load(gpu.architecture) >= HOPPER; }

bool is_confidential(const Gpu& gpu) { return has(gpu, IS_CONFIDENTIAL); }

nvmlReturn_t enter_capable(const State*& state) {
    if (const nvmlReturn_t status = enter(CALLS_SYSTEM, state); status != NVML_SUCCESS) {
        return status;
    }
    return any_gpu(*state, is_capable) ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

// What both of NVML's structures have in common.
template <typename Settings>
void describe(const State& state, Settings& settings) {
    const bool is_on = any_gpu(state, is_confidential);
    settings.environment =
        is_on ? NVML_CC_SYSTEM_ENVIRONMENT_PROD : NVML_CC_SYSTEM_ENVIRONMENT_UNAVAILABLE;
    settings.ccFeature = is_on ? NVML_CC_SYSTEM_FEATURE_ENABLED : NVML_CC_SYSTEM_FEATURE_DISABLED;
    settings.devToolsMode = NVML_CC_SYSTEM_DEVTOOLS_MODE_OFF;
}

}  // namespace

nvmlReturn_t nvmlSystemGetConfComputeState(nvmlConfComputeSystemState_t* system) {
    const State* state = nullptr;
    if (const nvmlReturn_t status = enter_capable(state); status != NVML_SUCCESS) {
        return status;
    }
    if (system == nullptr) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    describe(*state, *system);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetConfComputeSettings(nvmlSystemConfComputeSettings_t* settings) {
    const State* state = nullptr;
    if (const nvmlReturn_t status = enter_capable(state); status != NVML_SUCCESS) {
        return status;
    }
    if (settings == nullptr) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    if (settings->version != nvmlSystemConfComputeSettings_v1) {
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    }
    describe(*state, *settings);
    settings->multiGpuMode = NVML_CC_SYSTEM_MULTIGPU_NONE;
    return NVML_SUCCESS;
}

// In confidential mode all memory that is not set aside for it is protected.
nvmlReturn_t nvmlDeviceGetConfComputeMemSizeInfo(nvmlDevice_t device,
                                                 nvmlConfComputeMemSizeInfo_t* info) {
    return answer(
        device, CALLS_MEMORY,
        [=](const Gpu& gpu) {
            const unsigned long long all_kib = load(gpu.memory_total_bytes) / 1024;
            info->protectedMemSizeKib = is_confidential(gpu) ? all_kib : 0;
            info->unprotectedMemSizeKib = all_kib - info->protectedMemSizeKib;
            return NVML_SUCCESS;
        },
        info);
}
