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

// Enter a call about a GPU or a MIG device of it; `mig` is null for the whole GPU.
nvmlReturn_t enter_part(nvmlDevice_t device, std::uint64_t group, const Gpu*& gpu,
                        const MigDevice*& mig);

// The state once start_session() succeeded in this process, else null; no check at all.
const State* mapped_state();

// Handles are opaque to callers and never null.
nvmlDevice_t to_handle(std::size_t gpu_index);
bool to_index(nvmlDevice_t device, std::size_t& gpu_index);
nvmlDevice_t to_mig_handle(std::size_t gpu_index, std::size_t mig_index);

// Whether the driver that is loaded is of this major version or a later one.
bool driver_is_at_least(unsigned int major);

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

// As answer(), for calls that take MIG devices too: `fill(gpu, mig)`.
template <typename Fill, typename... Outputs>
nvmlReturn_t answer_part(nvmlDevice_t device, std::uint64_t group, Fill fill, Outputs*... outputs) {
    const Gpu* gpu = nullptr;
    const MigDevice* mig = nullptr;
    if (const nvmlReturn_t status = enter_part(device, group, gpu, mig); status != NVML_SUCCESS) {
        return status;
    }
    if (((outputs == nullptr) || ...)) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    return fill(*gpu, mig);
}

inline bool has(const Gpu& gpu, std::uint64_t capability) {
    return (load(gpu.capabilities) & capability) == capability;
}

}  // namespace gpuward::simulator
