// What every NVML call asks first: is this process initialised, the driver loaded and of its own
// version, the GPU still there, and does the scenario want this call to stall?
#pragma once

#include "nvml_api.h"
#include "state.h"
#include "state_file.h"

namespace gpuward::simulator {

nvmlReturn_t start_session();
nvmlReturn_t end_session();

// SUCCESS, or why no call can succeed now.  Never stalls.
nvmlReturn_t session_status();

// Enter a call about no GPU; `state` is set on SUCCESS.
nvmlReturn_t enter(std::uint64_t group, const State*& state);

// Enter a call about one GPU; `gpu` is set on SUCCESS.
nvmlReturn_t enter(nvmlDevice_t device, std::uint64_t group, const Gpu*& gpu);

// The state once start_session() succeeded in this process, else null; no check at all.
const State* mapped_state();

// Handles are opaque to callers and never null.
nvmlDevice_t to_handle(std::size_t gpu_index);
bool to_index(nvmlDevice_t device, std::size_t& gpu_index);

// Write `text` into a caller's buffer, as NVML does.
nvmlReturn_t write_text(char* buffer, unsigned int length, const char* text);

// Microseconds since 1970, NVML's time stamps.
long long now_microseconds();

// Run `fill(gpu)` for a live GPU when every output pointer is given.
template <typename Fill, typename... Outputs>
nvmlReturn_t answer(nvmlDevice_t device, std::uint64_t group, Fill fill, Outputs*... outputs) {
    const Gpu* gpu = nullptr;
    if (const nvmlReturn_t status = enter(device, group, gpu); status != NVML_SUCCESS) {
        return status;
    }
    if (((outputs == nullptr) || ...)) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    return fill(*gpu);
}

inline bool has(const Gpu& gpu, std::uint64_t capability) {
    return (load(gpu.capabilities) & capability) == capability;
}

}  // namespace gpuward::simulator
