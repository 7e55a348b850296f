#include "nvml_session.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <mutex>
#include <string>

#include "stall.h"

namespace gpuward::simulator {

namespace {

constexpr std::uintptr_t FIRST_HANDLE = 0x1000;
constexpr std::uintptr_t FIRST_MIG_HANDLE = 0x2000;

std::mutex start_mutex;
std::atomic<const State*> mapped{nullptr};
std::atomic<int> session_count{0};

// A process loads the user-space library once, so it keeps the version that was on disk then.
std::string library_version;

nvmlReturn_t driver_status(const State& state) {
    if (load(state.closed) != 0) {
        return NVML_ERROR_UNKNOWN;
    }
    if (load(state.driver_loaded) == 0) {
        return NVML_ERROR_DRIVER_NOT_LOADED;
    }
    if (library_version != state.driver_version) {
        return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
    }
    return NVML_SUCCESS;
}

// The MIG device that the handle names, or null; sets `gpu_index` when there is one.
const MigDevice* find_mig(const State& state, nvmlDevice_t device, std::size_t& gpu_index) {
    const std::uintptr_t number = reinterpret_cast<std::uintptr_t>(device) - FIRST_MIG_HANDLE;
    const std::size_t owner = number / MAX_MIG_DEVICES;
    if (owner >= load(state.gpu_count)) {
        return nullptr;
    }
    gpu_index = owner;
    const Gpu& gpu = state.gpus[owner];
    const std::size_t mig_index = number % MAX_MIG_DEVICES;
    return mig_index < load(gpu.mig_device_count) ? &gpu.mig_devices[mig_index] : nullptr;
}

const State* map_once() {
    const std::scoped_lock lock(start_mutex);
    if (mapped == nullptr) {
        const StateFile file = open_state(Access::READ);
        if (file.state != nullptr) {
            library_version = file.state->library_version;
            mapped = file.state;
        }
    }
    return mapped;
}

}  // namespace

nvmlReturn_t start_session() {
    const State* state = map_once();
    if (state == nullptr) {
        return NVML_ERROR_DRIVER_NOT_LOADED;
    }
    stall(*state, nullptr, CALLS_SYSTEM);
    if (const nvmlReturn_t status = driver_status(*state); status != NVML_SUCCESS) {
        return status;
    }
    if (const auto error = static_cast<nvmlReturn_t>(load(state->init_error))) {
        return error;
    }
    ++session_count;
    return NVML_SUCCESS;
}

nvmlReturn_t end_session() {
    int count = session_count;
    while (count > 0 && !session_count.compare_exchange_weak(count, count - 1)) {
    }
    return count > 0 ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
}

nvmlReturn_t session_status() {
    return session_count > 0 ? driver_status(*mapped) : NVML_ERROR_UNINITIALIZED;
}

nvmlReturn_t enter(std::uint64_t group, const State*& state) {
    if (session_count <= 0) {
        return NVML_ERROR_UNINITIALIZED;
    }
    state = mapped;
    stall(*state, nullptr, group);
    return driver_status(*state);
}

nvmlReturn_t enter(nvmlDevice_t device, std::uint64_t group, const Gpu*& gpu) {
    const MigDevice* mig = nullptr;
    const nvmlReturn_t status = enter_part(device, group, gpu, mig);
    // Real drivers say so of calls that a MIG device has no answer to.
    return status == NVML_SUCCESS && mig != nullptr ? NVML_ERROR_NOT_SUPPORTED : status;
}

nvmlReturn_t enter_part(nvmlDevice_t device, std::uint64_t group, const Gpu*& gpu,
                        const MigDevice*& mig) {
    std::size_t gpu_index = 0;
    if (session_count <= 0) {
        return NVML_ERROR_UNINITIALIZED;
    }
    const State& state = *mapped;
    mig = find_mig(state, device, gpu_index);
    if (mig == nullptr && !to_index(device, gpu_index)) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    gpu = &state.gpus[gpu_index];
    stall(state, gpu, group);
    if (const nvmlReturn_t status = driver_status(state); status != NVML_SUCCESS) {
        return status;
    }
    return load(gpu->lost) != 0 ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS;
}

const State* mapped_state() { return mapped; }

nvmlDevice_t to_handle(std::size_t gpu_index) {
    return reinterpret_cast<nvmlDevice_t>(FIRST_HANDLE + gpu_index);
}

bool to_index(nvmlDevice_t device, std::size_t& gpu_index) {
    // Below the first handle this wraps round to a huge number.
    gpu_index = reinterpret_cast<std::uintptr_t>(device) - FIRST_HANDLE;
    const State* state = mapped;
    return state != nullptr && gpu_index < load(state->gpu_count);
}

nvmlDevice_t to_mig_handle(std::size_t gpu_index, std::size_t mig_index) {
    return reinterpret_cast<nvmlDevice_t>(FIRST_MIG_HANDLE + gpu_index * MAX_MIG_DEVICES +
                                          mig_index);
}

bool driver_is_at_least(unsigned int major) {
    const State* state = mapped;
    return state != nullptr && std::strtoul(state->driver_version, nullptr, 10) >= major;
}

nvmlReturn_t write_text(char* buffer, unsigned int length, const char* text) {
    if (buffer == nullptr) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    if (length <= std::strlen(text)) {
        return NVML_ERROR_INSUFFICIENT_SIZE;
    }
    std::strcpy(buffer, text);
    return NVML_SUCCESS;
}

long long now_microseconds() {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1'000'000LL + now.tv_nsec / 1000;
}

}  // namespace gpuward::simulator
