// NVML: MIG, a GPU divided into devices with memory and processors of their own.
#include <cstring>

#include "nvml_session.h"

using namespace gpuward::simulator;

namespace {

template <typename Fill, typename... Outputs>
nvmlReturn_t answer_mig(nvmlDevice_t device, Fill fill, Outputs*... outputs) {
    return answer_part(
        device, CALLS_IDENTITY,
        [=](const Gpu& gpu, const MigDevice* mig) {
            return mig == nullptr ? NVML_ERROR_INVALID_ARGUMENT : fill(gpu, *mig);
        },
        outputs...);
}

}  // namespace

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int* current,
                                  unsigned int* pending) {
    return answer(
        device, CALLS_IDENTITY,
        [=](const Gpu& gpu) {
            if (!has(gpu, HAS_MIG)) {
                return NVML_ERROR_NOT_SUPPORTED;
            }
            *current = *pending = load(gpu.mig_mode);
            return NVML_SUCCESS;
        },
        current, pending);
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int* count) {
    return answer(
        device, CALLS_IDENTITY,
        [=](const Gpu& gpu) {
            *count = has(gpu, HAS_MIG) && load(gpu.mig_mode) != 0 ? MAX_MIG_DEVICES : 0;
            return NVML_SUCCESS;
        },
        count);
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index,
                                                 nvmlDevice_t* mig_device) {
    return answer(
        device, CALLS_IDENTITY,
        [=](const Gpu& gpu) {
            if (index >= MAX_MIG_DEVICES) {
                return NVML_ERROR_INVALID_ARGUMENT;
            }
            if (load(gpu.mig_mode) == 0 || index >= load(gpu.mig_device_count)) {
                return NVML_ERROR_NOT_FOUND;
            }
            std::size_t gpu_index = 0;
            to_index(device, gpu_index);
            *mig_device = to_mig_handle(gpu_index, index);
            return NVML_SUCCESS;
        },
        mig_device);
}

nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int* is_mig) {
    return answer_part(
        device, CALLS_IDENTITY,
        [=](const Gpu&, const MigDevice* mig) {
            *is_mig = mig == nullptr ? 0 : 1;
            return NVML_SUCCESS;
        },
        is_mig);
}

nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t mig_device,
                                                          nvmlDevice_t* device) {
    return answer_mig(
        mig_device,
        [=](const Gpu& gpu, const MigDevice&) {
            *device = to_handle(static_cast<std::size_t>(&gpu - mapped_state()->gpus));
            return NVML_SUCCESS;
        },
        device);
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned int* id) {
    return answer_mig(
        device,
        [=](const Gpu&, const MigDevice& mig) {
            *id = mig.gpu_instance;
            return NVML_SUCCESS;
        },
        id);
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned int* id) {
    return answer_mig(
        device,
        [=](const Gpu&, const MigDevice& mig) {
            *id = mig.compute_instance;
            return NVML_SUCCESS;
        },
        id);
}

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t* attributes) {
    return answer_mig(
        device,
        [=](const Gpu&, const MigDevice& mig) {
            *attributes = {};
            attributes->multiprocessorCount = mig.multiprocessor_count;
            attributes->gpuInstanceSliceCount = mig.slice_count;
            attributes->computeInstanceSliceCount = mig.slice_count;
            attributes->memorySizeMB = mig.memory_total_bytes >> 20;
            return NVML_SUCCESS;
        },
        attributes);
}
