#include "cuda_context.h"

#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "cuda_visible.h"
#include "cuda_work.h"
#include "process_rows.h"
#include "stall.h"

namespace gpuward::simulator {

namespace {

struct PrimaryContext {
    CUctx_st context{};
    unsigned flags = 0;
    std::atomic<bool> is_active = false;
};

struct Driver {
    StateFile file;
    std::vector<std::size_t> visible;
    std::uint32_t generation = 0;  // of the kernel driver when cuInit ran
    std::mutex mutex;              // guards primary
    PrimaryContext primary[MAX_GPUS];
};

Driver* driver = nullptr;
bool is_forked = false;
std::mutex initialization;
thread_local CUcontext current = nullptr;

// Exit gives the process's memory back at once; a killed process's row is void by state.h's rule.
void leave() {
    if (driver != nullptr) {
        forget(driver->file);
    }
}

// A child of fork has its parent's mappings but not its device memory: CUDA refuses it.
void after_fork_in_child() {
    is_forked = true;
    driver = nullptr;
    current = nullptr;
}

bool libraries_match(const State& state) {
    return std::strcmp(state.driver_version, state.library_version) == 0;
}

CUresult initialize() {
    const StateFile file = open_state(Access::WRITE);
    if (file.state == nullptr || load(file.state->driver_loaded) == 0) {
        return CUDA_ERROR_NO_DEVICE;
    }
    stall(*file.state, nullptr, CALLS_CUDA);
    if (!libraries_match(*file.state)) {
        return CUDA_ERROR_SYSTEM_DRIVER_MISMATCH;
    }
    const char* list = std::getenv("CUDA_VISIBLE_DEVICES");
    auto* starting = new Driver{};
    starting->file = file;
    starting->visible = list ? visible_gpus(*file.state, list) : all_gpus(*file.state);
    starting->generation = load(file.state->driver_generation);
    for (std::size_t device = 0; device < starting->visible.size(); ++device) {
        starting->primary[device].context.device = static_cast<CUdevice>(device);
    }
    if (starting->visible.empty()) {
        delete starting;
        return CUDA_ERROR_NO_DEVICE;
    }
    driver = starting;
    std::atexit(leave);
    pthread_atfork(nullptr, nullptr, after_fork_in_child);
    return CUDA_SUCCESS;
}

}  // namespace

bool is_initialized() { return driver != nullptr; }

const StateFile& state_file() { return driver->file; }

int device_count() { return driver == nullptr ? 0 : static_cast<int>(driver->visible.size()); }

bool is_device(CUdevice device) { return device >= 0 && device < device_count(); }

std::size_t gpu_index(CUdevice device) { return driver->visible[static_cast<std::size_t>(device)]; }

const Gpu& gpu_of(CUdevice device) { return driver->file.state->gpus[gpu_index(device)]; }

CUresult current_device(CUdevice& device) {
    if (driver == nullptr) {
        return CUDA_ERROR_NOT_INITIALIZED;
    }
    if (current == nullptr) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    device = current->device;
    return CUDA_SUCCESS;
}

CUresult check_alive(CUdevice device) {
    const State& state = *driver->file.state;
    const bool is_same_driver =
        load(state.driver_loaded) != 0 && load(state.driver_generation) == driver->generation;
    return is_same_driver && load(gpu_of(device).lost) == 0 ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN;
}

CUresult enter_driver(CUdevice device) {
    stall(*driver->file.state, &gpu_of(device), CALLS_CUDA);
    return check_alive(device);
}

CUresult enter_driver_of_current(CUdevice& device) {
    const CUresult status = current_device(device);
    return status == CUDA_SUCCESS ? enter_driver(device) : status;
}

CUresult activate(CUdevice device) {
    PrimaryContext& primary = driver->primary[device];
    if (primary.is_active) {
        return check_alive(device);
    }
    // Before the lock: a device that hangs holds up nobody on the others.
    if (const CUresult status = enter_driver(device); status != CUDA_SUCCESS) {
        return status;
    }
    const std::lock_guard lock(driver->mutex);
    if (primary.is_active) {
        return CUDA_SUCCESS;
    }
    if (!take(driver->file, gpu_index(device), CONTEXT_BYTES)) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    primary.is_active = true;
    return CUDA_SUCCESS;
}

}  // namespace gpuward::simulator

using namespace gpuward::simulator;

extern "C" {

CUresult cuInit(unsigned int) {
    const std::lock_guard lock(initialization);
    if (is_forked) {
        return CUDA_ERROR_NOT_INITIALIZED;
    }
    return driver != nullptr ? CUDA_SUCCESS : initialize();
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
    if (!is_device(device)) {
        return is_initialized() ? CUDA_ERROR_INVALID_DEVICE : CUDA_ERROR_NOT_INITIALIZED;
    }
    *context = &driver->primary[device].context;
    return activate(device);
}

// A primary context lives to the end of the process: nobody here counts its users.
CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
    return is_device(device) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int* flags, int* is_active) {
    if (!is_device(device)) {
        return is_initialized() ? CUDA_ERROR_INVALID_DEVICE : CUDA_ERROR_NOT_INITIALIZED;
    }
    const std::lock_guard lock(driver->mutex);
    *flags = driver->primary[device].flags;
    *is_active = driver->primary[device].is_active ? 1 : 0;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned int flags) {
    if (!is_device(device)) {
        return is_initialized() ? CUDA_ERROR_INVALID_DEVICE : CUDA_ERROR_NOT_INITIALIZED;
    }
    const std::lock_guard lock(driver->mutex);
    driver->primary[device].flags = flags;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext* context) {
    *context = current;
    return is_initialized() ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}

CUresult cuCtxSetCurrent(CUcontext context) {
    current = context;
    return is_initialized() ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}

CUresult cuCtxGetDevice(CUdevice* device) { return current_device(*device); }

CUresult cuCtxSynchronize() {
    CUdevice device = 0;
    const CUresult status = enter_driver_of_current(device);
    if (status == CUDA_SUCCESS) {
        finish_all(device);
    }
    return status;
}

CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    constexpr int GREATEST_PRIORITY = -5;  // every architecture since Volta
    if (least != nullptr) {
        *least = 0;
    }
    if (greatest != nullptr) {
        *greatest = GREATEST_PRIORITY;
    }
    return CUDA_SUCCESS;
}
}
