// NVML: utilisation, clocks, power limits, temperatures, fans.
#include <iterator>

#include "nvml_session.h"

using namespace gpuward::simulator;

namespace {

using Member = std::uint32_t Gpu::*;

// Indexed by nvmlClockType_t.
constexpr Member CLOCKS[] = {&Gpu::graphics_clock_megahertz, &Gpu::sm_clock_megahertz,
                             &Gpu::memory_clock_megahertz, &Gpu::video_clock_megahertz};
constexpr Member CLOCKS_MAX[] = {&Gpu::graphics_clock_max_megahertz, &Gpu::sm_clock_max_megahertz,
                                 &Gpu::memory_clock_max_megahertz, &Gpu::video_clock_max_megahertz};

// Indexed by nvmlTemperatureThresholds_t; the acoustic ones that follow are not supported.
constexpr Member THRESHOLDS[] = {
    &Gpu::temperature_shutdown_celsius, &Gpu::temperature_slowdown_celsius,
    &Gpu::temperature_memory_max_celsius, &Gpu::temperature_gpu_max_celsius};

constexpr unsigned int SAMPLING_PERIOD_MICROSECONDS = 167'000;  // NVML: 1/6 s

template <std::size_t Size>
nvmlReturn_t select(nvmlDevice_t device, std::uint64_t group, const Member (&members)[Size],
                    std::size_t which, unsigned int* value) {
    return answer(
        device, group,
        [=, &members](const Gpu& gpu) {
            if (which >= Size) {
                return NVML_ERROR_INVALID_ARGUMENT;
            }
            *value = load(gpu.*members[which]);
            return NVML_SUCCESS;
        },
        value);
}

nvmlReturn_t engine_utilization(nvmlDevice_t device, Member member, unsigned int* percent,
                                unsigned int* period) {
    return answer(
        device, CALLS_UTILIZATION,
        [=](const Gpu& gpu) {
            *percent = load(gpu.*member);
            *period = SAMPLING_PERIOD_MICROSECONDS;
            return NVML_SUCCESS;
        },
        percent, period);
}

nvmlReturn_t fan_speed(nvmlDevice_t device, unsigned int fan, unsigned int* percent) {
    return answer(
        device, CALLS_TEMPERATURE,
        [=](const Gpu& gpu) {
            if (load(gpu.fan_count) == 0) {
                return NVML_ERROR_NOT_SUPPORTED;
            }
            if (fan >= load(gpu.fan_count)) {
                return NVML_ERROR_INVALID_ARGUMENT;
            }
            *percent = load(gpu.fan_speed_percent);
            return NVML_SUCCESS;
        },
        percent);
}

}  // namespace

// Real drivers answer "not supported" in MIG mode.
nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t* utilization) {
    return answer(
        device, CALLS_UTILIZATION,
        [=](const Gpu& gpu) {
            if (load(gpu.mig_mode) != 0) {
                return NVML_ERROR_NOT_SUPPORTED;
            }
            utilization->gpu = load(gpu.utilization_gpu_percent);
            utilization->memory = load(gpu.utilization_memory_percent);
            return NVML_SUCCESS;
        },
        utilization);
}

nvmlReturn_t nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, unsigned int* percent,
                                             unsigned int* period) {
    return engine_utilization(device, &Gpu::utilization_encoder_percent, percent, period);
}

nvmlReturn_t nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, unsigned int* percent,
                                             unsigned int* period) {
    return engine_utilization(device, &Gpu::utilization_decoder_percent, percent, period);
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t type,
                                    unsigned int* clock) {
    return select(device, CALLS_CLOCK, CLOCKS, type, clock);
}

nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t type,
                                       unsigned int* clock) {
    return select(device, CALLS_CLOCK, CLOCKS_MAX, type, clock);
}

nvmlReturn_t nvmlDeviceGetApplicationsClock(nvmlDevice_t device, nvmlClockType_t type,
                                            unsigned int* clock) {
    return select(device, CALLS_CLOCK, CLOCKS_MAX, type, clock);
}

nvmlReturn_t nvmlDeviceGetDefaultApplicationsClock(nvmlDevice_t device, nvmlClockType_t type,
                                                   unsigned int* clock) {
    return select(device, CALLS_CLOCK, CLOCKS_MAX, type, clock);
}

nvmlReturn_t nvmlDeviceGetClock(nvmlDevice_t device, nvmlClockType_t type, nvmlClockId_t id,
                                unsigned int* clock) {
    return id == NVML_CLOCK_ID_CURRENT ? select(device, CALLS_CLOCK, CLOCKS, type, clock)
                                       : select(device, CALLS_CLOCK, CLOCKS_MAX, type, clock);
}

nvmlReturn_t nvmlDeviceGetPowerManagementMode(nvmlDevice_t device, nvmlEnableState_t* mode) {
    return answer(
        device, CALLS_POWER,
        [=](const Gpu&) {
            *mode = NVML_FEATURE_ENABLED;
            return NVML_SUCCESS;
        },
        mode);
}

nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device, unsigned int* lowest,
                                                          unsigned int* highest) {
    return answer(
        device, CALLS_POWER,
        [=](const Gpu& gpu) {
            *lowest = load(gpu.power_limit_min_milliwatts);
            *highest = load(gpu.power_limit_max_milliwatts);
            return NVML_SUCCESS;
        },
        lowest, highest);
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor,
                                      unsigned int* celsius) {
    return answer(
        device, CALLS_TEMPERATURE,
        [=](const Gpu& gpu) {
            if (sensor != NVML_TEMPERATURE_GPU) {
                return NVML_ERROR_INVALID_ARGUMENT;
            }
            *celsius = load(gpu.temperature_celsius);
            return NVML_SUCCESS;
        },
        celsius);
}

nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t* temperature) {
    return answer(
        device, CALLS_TEMPERATURE,
        [=](const Gpu& gpu) {
            if (temperature->version != nvmlTemperature_v1) {
                return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
            }
            if (temperature->sensorType != NVML_TEMPERATURE_GPU) {
                return NVML_ERROR_INVALID_ARGUMENT;
            }
            temperature->temperature = static_cast<int>(load(gpu.temperature_celsius));
            return NVML_SUCCESS;
        },
        temperature);
}

nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device,
                                               nvmlTemperatureThresholds_t threshold,
                                               unsigned int* celsius) {
    if (threshold >= std::size(THRESHOLDS) && threshold < NVML_TEMPERATURE_THRESHOLD_COUNT) {
        return answer(
            device, CALLS_TEMPERATURE, [](const Gpu&) { return NVML_ERROR_NOT_SUPPORTED; },
            celsius);
    }
    return select(device, CALLS_TEMPERATURE, THRESHOLDS, threshold, celsius);
}

nvmlReturn_t nvmlDeviceGetMarginTemperature(nvmlDevice_t device, nvmlMarginTemperature_t* margin) {
    return answer(
        device, CALLS_TEMPERATURE,
        [=](const Gpu& gpu) {
            if (margin->version != nvmlMarginTemperature_v1) {
                return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
            }
            if (!has(gpu, HAS_THERMAL_MARGIN)) {
                return NVML_ERROR_NOT_SUPPORTED;
            }
            margin->marginTemperature = static_cast<int>(load(gpu.temperature_gpu_max_celsius)) -
                                        static_cast<int>(load(gpu.temperature_celsius));
            return NVML_SUCCESS;
        },
        margin);
}

nvmlReturn_t nvmlDeviceGetFanSpeed(nvmlDevice_t device, unsigned int* percent) {
    return fan_speed(device, 0, percent);
}

nvmlReturn_t nvmlDeviceGetFanSpeed_v2(nvmlDevice_t device, unsigned int fan,
                                      unsigned int* percent) {
    return fan_speed(device, fan, percent);
}
