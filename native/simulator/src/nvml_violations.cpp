// NVML: how long a policy held the clocks down; drivers from 580 on count in field values instead.
#include "nvml_session.h"

using namespace gpuward::simulator;

// The header marks it as deprecated, which a definition may ignore.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

nvmlReturn_t nvmlDeviceGetViolationStatus(nvmlDevice_t device, nvmlPerfPolicyType_t policy,
                                          nvmlViolationTime_t* time) {
    return answer(
        device, CALLS_CLOCK,
        [=](const Gpu& gpu) {
            if (policy >= NVML_PERF_POLICY_COUNT) {
                return NVML_ERROR_INVALID_ARGUMENT;
            }
            if (!has(gpu, HAS_VIOLATION_STATUS)) {
                return NVML_ERROR_NOT_SUPPORTED;
            }
            time->referenceTime = static_cast<unsigned long long>(now_microseconds());
            time->violationTime = 0;
            if (policy == NVML_PERF_POLICY_POWER) {
                time->violationTime = load(gpu.sw_power_cap_nanoseconds);
            } else if (policy == NVML_PERF_POLICY_THERMAL) {
                time->violationTime = load(gpu.sw_thermal_slowdown_nanoseconds) +
                                      load(gpu.hw_thermal_slowdown_nanoseconds);
            } else if (policy == NVML_PERF_POLICY_SYNC_BOOST) {
                time->violationTime = load(gpu.sync_boost_nanoseconds);
            }
            return NVML_SUCCESS;
        },
        time);
}
