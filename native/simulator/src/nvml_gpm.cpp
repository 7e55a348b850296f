// NVML: GPM, the activity of a GPU's parts between two samples; Hopper and newer.
//
// The state holds what the scenario says is true now, so a metric is the mean of both samples.
#include <new>

#include "nvml_session.h"

using namespace gpuward::simulator;

struct nvmlGpmSample_st {
    bool is_filled = false;
    double graphics = 0;
    double sm_active = 0;
    double sm_occupancy = 0;
    double tensor = 0;
    double dram = 0;
    double pcie_transmit = 0;
    double pcie_receive = 0;
    double nvlink_receive = 0;
    double nvlink_transmit = 0;
};

namespace {

using Sample = nvmlGpmSample_st;

constexpr double PERMILLE_OF_PERCENT = 10;
constexpr double KILOBYTES_OF_MEBIBYTE = 1024;

struct Metric {
    unsigned int id;
    double Sample::* value;
};

constexpr Metric METRICS[] = {
    {NVML_GPM_METRIC_GRAPHICS_UTIL, &Sample::graphics},
    {NVML_GPM_METRIC_SM_UTIL, &Sample::sm_active},
    {NVML_GPM_METRIC_SM_OCCUPANCY, &Sample::sm_occupancy},
    {NVML_GPM_METRIC_ANY_TENSOR_UTIL, &Sample::tensor},
    {NVML_GPM_METRIC_DRAM_BW_UTIL, &Sample::dram},
    {NVML_GPM_METRIC_PCIE_TX_PER_SEC, &Sample::pcie_transmit},
    {NVML_GPM_METRIC_PCIE_RX_PER_SEC, &Sample::pcie_receive},
    {NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC, &Sample::nvlink_receive},
    {NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC, &Sample::nvlink_transmit},
};

// Of a GPU and of a MIG device: both have the same fields.
template <typename Part>
void read_activity(const Part& part, Sample& sample) {
    sample.is_filled = true;
    sample.sm_active = load(part.gpm_sm_active_permille) / PERMILLE_OF_PERCENT;
    sample.sm_occupancy = load(part.gpm_sm_occupancy_permille) / PERMILLE_OF_PERCENT;
    sample.tensor = load(part.gpm_tensor_permille) / PERMILLE_OF_PERCENT;
    sample.dram = load(part.gpm_dram_permille) / PERMILLE_OF_PERCENT;
}

void read_traffic(const Gpu& gpu, Sample& sample) {
    sample.graphics = load(gpu.utilization_gpu_percent);
    sample.pcie_transmit = load(gpu.pcie_transmit_kilobytes_per_second) / KILOBYTES_OF_MEBIBYTE;
    sample.pcie_receive = load(gpu.pcie_receive_kilobytes_per_second) / KILOBYTES_OF_MEBIBYTE;
    sample.nvlink_receive = load(gpu.nvlink_receive_mebibytes_per_second);
    sample.nvlink_transmit = load(gpu.nvlink_transmit_mebibytes_per_second);
}

void fill(nvmlGpmMetric_t& metric, const Sample& first, const Sample& second) {
    metric.nvmlReturn = NVML_ERROR_NOT_SUPPORTED;
    metric.metricInfo = {};
    for (const Metric& known : METRICS) {
        if (known.id == metric.metricId) {
            metric.value = (first.*known.value + second.*known.value) / 2;
            metric.nvmlReturn = NVML_SUCCESS;
        }
    }
}

}  // namespace

nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, nvmlGpmSupport_t* support) {
    return answer(
        device, CALLS_GPM,
        [=](const Gpu& gpu) {
            if (support->version != NVML_GPM_SUPPORT_VERSION) {
                return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
            }
            support->isSupportedDevice = has(gpu, HAS_GPM) ? 1 : 0;
            return NVML_SUCCESS;
        },
        support);
}

nvmlReturn_t nvmlGpmSampleAlloc(nvmlGpmSample_t* sample) {
    if (sample == nullptr) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    *sample = new (std::nothrow) Sample{};
    return *sample == nullptr ? NVML_ERROR_MEMORY : NVML_SUCCESS;
}

nvmlReturn_t nvmlGpmSampleFree(nvmlGpmSample_t sample) {
    delete sample;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t device, nvmlGpmSample_t sample) {
    return answer(
        device, CALLS_GPM,
        [=](const Gpu& gpu) {
            // With MIG on, only instances are measured.
            if (!has(gpu, HAS_GPM) || load(gpu.mig_mode) != 0) {
                return NVML_ERROR_NOT_SUPPORTED;
            }
            if (has(gpu, RESTRICTS_PROFILING)) {
                return NVML_ERROR_NO_PERMISSION;
            }
            read_activity(gpu, *sample);
            read_traffic(gpu, *sample);
            return NVML_SUCCESS;
        },
        sample);
}

nvmlReturn_t nvmlGpmMigSampleGet(nvmlDevice_t device, unsigned int gpu_instance,
                                 nvmlGpmSample_t sample) {
    return answer(
        device, CALLS_GPM,
        [=](const Gpu& gpu) {
            if (!has(gpu, HAS_GPM)) {
                return NVML_ERROR_NOT_SUPPORTED;
            }
            for (std::size_t index = 0; index < load(gpu.mig_device_count); ++index) {
                if (gpu.mig_devices[index].gpu_instance == gpu_instance) {
                    read_activity(gpu.mig_devices[index], *sample);
                    return NVML_SUCCESS;
                }
            }
            return NVML_ERROR_NOT_FOUND;
        },
        sample);
}

nvmlReturn_t nvmlGpmMetricsGet(nvmlGpmMetricsGet_t* request) {
    if (request == nullptr || request->sample1 == nullptr || request->sample2 == nullptr ||
        request->numMetrics > NVML_GPM_METRIC_MAX) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    if (request->version != NVML_GPM_METRICS_GET_VERSION) {
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    }
    if (!request->sample1->is_filled || !request->sample2->is_filled) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    for (unsigned int index = 0; index < request->numMetrics; ++index) {
        fill(request->metrics[index], *request->sample1, *request->sample2);
    }
    return NVML_SUCCESS;
}
