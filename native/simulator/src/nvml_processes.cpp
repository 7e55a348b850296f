// NVML: which processes hold a GPU's memory; three kinds of list, three versions of the struct.
#include <vector>

#include "nvml_session.h"
#include "process_rows.h"

using namespace gpuward::simulator;

namespace {

constexpr unsigned int WHOLE_GPU = 0xFFFFFFFF;  // no MIG instance

// The whole GPU shows the processes of all its MIG devices, a MIG device its own.
std::vector<const Process*> living(const Gpu& gpu, const MigDevice* mig, unsigned int mode) {
    std::vector<const Process*> rows;
    for (const Process& row : gpu.processes) {
        const bool is_here =
            mig == nullptr ||
            load(row.mig_device) == static_cast<std::uint32_t>(mig - gpu.mig_devices) + 1;
        if (is_here && is_alive(row) && (mode == NVML_PROCESS_MODE_ALL || load(row.kind) == mode)) {
            rows.push_back(&row);
        }
    }
    return rows;
}

template <typename Info>
void fill(Info& info, const Gpu& gpu, const Process& row) {
    info = {};
    info.pid = row.pid;
    info.usedGpuMemory = load(row.memory_bytes);
    if constexpr (requires { info.gpuInstanceId; }) {
        const std::uint32_t number = load(row.mig_device);
        const bool is_mig = number > 0 && number <= load(gpu.mig_device_count);
        info.gpuInstanceId = is_mig ? gpu.mig_devices[number - 1].gpu_instance : WHOLE_GPU;
        info.computeInstanceId = is_mig ? gpu.mig_devices[number - 1].compute_instance : WHOLE_GPU;
    }
}

// `count`: in, how many `infos` can take; out, how many there are.
template <typename Info>
nvmlReturn_t list(nvmlDevice_t device, unsigned int mode, unsigned int* count, Info* infos) {
    return answer_part(
        device, CALLS_PROCESS,
        [=](const Gpu& gpu, const MigDevice* mig) {
            const std::vector<const Process*> rows = living(gpu, mig, mode);
            const unsigned int room = *count;
            *count = static_cast<unsigned int>(rows.size());
            if (rows.size() > room) {
                return NVML_ERROR_INSUFFICIENT_SIZE;
            }
            if (infos == nullptr && !rows.empty()) {
                return NVML_ERROR_INVALID_ARGUMENT;
            }
            for (std::size_t index = 0; index < rows.size(); ++index) {
                fill(infos[index], gpu, *rows[index]);
            }
            return NVML_SUCCESS;
        },
        count);
}

}  // namespace

#define PROCESS_LIST(function, mode, info)                                         \
    nvmlReturn_t function(nvmlDevice_t device, unsigned int* count, info* infos) { \
        return list(device, mode, count, infos);                                   \
    }

// clang-format off
PROCESS_LIST(nvmlDeviceGetComputeRunningProcesses, NVML_PROCESS_MODE_COMPUTE, nvmlProcessInfo_v1_t)
PROCESS_LIST(nvmlDeviceGetComputeRunningProcesses_v2, NVML_PROCESS_MODE_COMPUTE, nvmlProcessInfo_v2_t)
PROCESS_LIST(nvmlDeviceGetComputeRunningProcesses_v3, NVML_PROCESS_MODE_COMPUTE, nvmlProcessInfo_t)
PROCESS_LIST(nvmlDeviceGetGraphicsRunningProcesses, NVML_PROCESS_MODE_GRAPHICS, nvmlProcessInfo_v1_t)
PROCESS_LIST(nvmlDeviceGetGraphicsRunningProcesses_v2, NVML_PROCESS_MODE_GRAPHICS, nvmlProcessInfo_v2_t)
PROCESS_LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, NVML_PROCESS_MODE_GRAPHICS, nvmlProcessInfo_t)
PROCESS_LIST(nvmlDeviceGetMPSComputeRunningProcesses, NVML_PROCESS_MODE_MPS, nvmlProcessInfo_v1_t)
PROCESS_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v2, NVML_PROCESS_MODE_MPS, nvmlProcessInfo_v2_t)
PROCESS_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v3, NVML_PROCESS_MODE_MPS, nvmlProcessInfo_t)
// clang-format on

nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device,
                                                   nvmlProcessDetailList_t* processes) {
    if (processes != nullptr && processes->version != nvmlProcessDetailList_v1) {
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    }
    if (processes == nullptr || processes->mode >= NVML_PROCESS_MODE_MAX) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    return list(device, processes->mode, &processes->numProcArrayEntries, processes->procArray);
}

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device,
                                             nvmlProcessUtilizationSample_t* samples,
                                             unsigned int* count, unsigned long long) {
    return answer(
        device, CALLS_PROCESS,
        [=](const Gpu& gpu) {
            if (load(gpu.mig_mode) != 0) {
                return NVML_ERROR_NOT_SUPPORTED;
            }
            const std::vector<const Process*> rows = living(gpu, nullptr, NVML_PROCESS_MODE_ALL);
            const unsigned int room = samples == nullptr ? 0 : *count;
            *count = static_cast<unsigned int>(rows.size());
            if (rows.empty()) {
                return NVML_ERROR_NOT_FOUND;
            }
            if (rows.size() > room) {
                return NVML_ERROR_INSUFFICIENT_SIZE;
            }
            const auto now = static_cast<unsigned long long>(now_microseconds());
            for (std::size_t index = 0; index < rows.size(); ++index) {
                const Process& row = *rows[index];
                samples[index] = {row.pid,
                                  now,
                                  load(row.sm_percent),
                                  load(row.memory_percent),
                                  load(row.encoder_percent),
                                  load(row.decoder_percent)};
            }
            return NVML_SUCCESS;
        },
        count);
}
