// NVML: initialisation, versions, errors, and finding a GPU.
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <iterator>

#include "nvml_session.h"

using namespace gpuward::simulator;

namespace {

// Indexed by nvmlReturn_t; the wording is NVML's, its one misspelling mended.
constexpr const char* ERROR_TEXTS[] = {
    "The operation was successful",
    "Uninitialized",
    "Invalid Argument",
    "Not Supported",
    "Insufficient Permissions",
    "Already Initialized",
    "Not Found",
    "Insufficient Size",
    "Insufficient External Power",
    "Driver Not Loaded",
    "Timeout",
    "Interrupt Request Issue",
    "NVML Shared Library Not Found",
    "Function Not Found",
    "Corrupted infoROM",
    "GPU is lost",
    "GPU requires restart",
    "The operating system has blocked the request.",
    "RM has detected an NVML/RM version mismatch.",
    "GPU is currently in use",
    "Insufficient Memory",
    "No data",
    "The requested vgpu operation is not available on target device, because ECC is enabled",
    "Insufficient Resources",
    "The requested frequency is not supported",
    "Argument version mismatch",
    "The requested functionality has been deprecated",
    "The system is not ready for the request",
    "No GPUs were found",
    "Invalid State",
};

nvmlReturn_t find_gpu(unsigned int index, nvmlDevice_t* device) {
    const State* state = nullptr;
    if (const nvmlReturn_t status = enter(CALLS_SYSTEM, state); status != NVML_SUCCESS) {
        return status;
    }
    if (device == nullptr || index >= load(state->gpu_count)) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    const Gpu* gpu = nullptr;
    const nvmlReturn_t status = enter(to_handle(index), CALLS_SYSTEM, gpu);
    if (status == NVML_SUCCESS) {
        *device = to_handle(index);
    }
    return status;
}

template <typename Matches>
nvmlReturn_t find_gpu_if(const char* key, nvmlDevice_t* device, Matches matches) {
    const State* state = nullptr;
    if (const nvmlReturn_t status = enter(CALLS_SYSTEM, state); status != NVML_SUCCESS) {
        return status;
    }
    if (key == nullptr || device == nullptr) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    for (unsigned int index = 0; index < load(state->gpu_count); ++index) {
        if (matches(state->gpus[index])) {
            return find_gpu(index, device);
        }
    }
    return NVML_ERROR_NOT_FOUND;
}

bool find_mig_by_uuid(const char* uuid, nvmlDevice_t* device) {
    const State* state = mapped_state();
    if (state == nullptr || uuid == nullptr || device == nullptr) {
        return false;
    }
    for (std::size_t gpu_index = 0; gpu_index < load(state->gpu_count); ++gpu_index) {
        const Gpu& gpu = state->gpus[gpu_index];
        for (std::size_t index = 0; index < load(gpu.mig_device_count); ++index) {
            if (std::strcmp(gpu.mig_devices[index].uuid, uuid) == 0) {
                *device = to_mig_handle(gpu_index, index);
                return true;
            }
        }
    }
    return false;
}

nvmlReturn_t find_by_pci(const char* bus_id, nvmlDevice_t* device) {
    unsigned int domain = 0;
    unsigned int bus = 0;
    unsigned int slot = 0;
    const bool parsed =
        bus_id != nullptr && (std::sscanf(bus_id, "%x:%x:%x", &domain, &bus, &slot) == 3 ||
                              (domain = 0, std::sscanf(bus_id, "%x:%x", &bus, &slot) == 2));
    if (!parsed) {
        const nvmlReturn_t status = session_status();
        return status == NVML_SUCCESS ? NVML_ERROR_INVALID_ARGUMENT : status;
    }
    return find_gpu_if(bus_id, device, [&](const Gpu& gpu) {
        return gpu.pci_domain == domain && gpu.pci_bus == bus && gpu.pci_device == slot;
    });
}

nvmlReturn_t count_gpus(unsigned int* count) {
    const State* state = nullptr;
    const nvmlReturn_t status = enter(CALLS_SYSTEM, state);
    if (status == NVML_SUCCESS && count == nullptr) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    if (status == NVML_SUCCESS) {
        *count = load(state->gpu_count);
    }
    return status;
}

// Answers without initialisation too, but not without a driver.
nvmlReturn_t cuda_version(int* version) {
    if (version == nullptr) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    const State* state = mapped_state();
    if (state == nullptr) {
        return NVML_ERROR_LIBRARY_NOT_FOUND;
    }
    *version = static_cast<int>(load(state->cuda_version));
    return NVML_SUCCESS;
}

}  // namespace

nvmlReturn_t nvmlInit(void) { return start_session(); }

nvmlReturn_t nvmlInit_v2(void) { return start_session(); }

nvmlReturn_t nvmlInitWithFlags(unsigned int) { return start_session(); }

nvmlReturn_t nvmlShutdown(void) { return end_session(); }

const char* nvmlErrorString(nvmlReturn_t result) {
    const auto code = static_cast<std::size_t>(result);
    return code < std::size(ERROR_TEXTS) ? ERROR_TEXTS[code] : "Unknown Error";
}

nvmlReturn_t nvmlSystemGetDriverVersion(char* version, unsigned int length) {
    const State* state = nullptr;
    const nvmlReturn_t status = enter(CALLS_SYSTEM, state);
    return status != NVML_SUCCESS ? status : write_text(version, length, state->driver_version);
}

nvmlReturn_t nvmlSystemGetNVMLVersion(char* version, unsigned int length) {
    const State* state = nullptr;
    if (const nvmlReturn_t status = enter(CALLS_SYSTEM, state); status != NVML_SUCCESS) {
        return status;
    }
    // NVML's own version is its CUDA major, then the driver's version.
    char text[sizeof state->library_version + 8];
    std::snprintf(text, sizeof text, "%u.%s", load(state->cuda_version) / 1000,
                  state->library_version);
    return write_text(version, length, text);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int* version) { return cuda_version(version); }

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int* version) { return cuda_version(version); }

nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char* name, unsigned int length) {
    const State* state = nullptr;
    if (const nvmlReturn_t status = enter(CALLS_PROCESS, state); status != NVML_SUCCESS) {
        return status;
    }
    if (name == nullptr || length == 0) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    char link[32];
    std::snprintf(link, sizeof link, "/proc/%u/exe", pid);
    const ssize_t size = readlink(link, name, length - 1);
    if (size < 0) {
        return NVML_ERROR_NOT_FOUND;
    }
    name[size] = '\0';
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount(unsigned int* count) { return count_gpus(count); }

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int* count) { return count_gpus(count); }

nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t* device) {
    return find_gpu(index, device);
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t* device) {
    return find_gpu(index, device);
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char* uuid, nvmlDevice_t* device) {
    if (find_mig_by_uuid(uuid, device)) {
        return session_status();
    }
    return find_gpu_if(uuid, device,
                       [=](const Gpu& gpu) { return std::strcmp(gpu.uuid, uuid) == 0; });
}

nvmlReturn_t nvmlDeviceGetHandleBySerial(const char* serial, nvmlDevice_t* device) {
    return find_gpu_if(serial, device, [=](const Gpu& gpu) {
        return gpu.serial[0] != '\0' && std::strcmp(gpu.serial, serial) == 0;
    });
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char* bus_id, nvmlDevice_t* device) {
    return find_by_pci(bus_id, device);
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char* bus_id, nvmlDevice_t* device) {
    return find_by_pci(bus_id, device);
}
