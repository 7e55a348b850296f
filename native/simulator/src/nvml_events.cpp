// NVML: event sets.  A set sees what happens after it was made; the ring keeps MAX_EVENTS.
#include <algorithm>
#include <chrono>
#include <new>
#include <thread>

#include "nvml_session.h"
#include "stall.h"

using namespace gpuward::simulator;
using Clock = std::chrono::steady_clock;

struct nvmlEventSet_st {
    std::uint64_t seen = 0;  // sequence of the last event looked at
    std::uint64_t kinds[MAX_GPUS] = {};
};

namespace {

constexpr unsigned int WHOLE_GPU = 0xFFFFFFFF;
constexpr std::chrono::milliseconds POLL{2};
constexpr std::uint64_t KINDS =
    nvmlEventTypePState | nvmlEventTypeXidCriticalError | nvmlEventTypeClock;
constexpr std::uint64_t KINDS_ECC = nvmlEventTypeSingleBitEccError | nvmlEventTypeDoubleBitEccError;

std::uint64_t supported_kinds(const Gpu& gpu) {
    return has(gpu, HAS_ECC) ? KINDS | KINDS_ECC : KINDS;
}

// The next event that the set wants; false when there is none yet.
bool next_event(const State& state, nvmlEventSet_st& set, nvmlEventData_t& data) {
    const std::uint64_t count = load(state.event_count);
    set.seen = std::max(set.seen, count > MAX_EVENTS ? count - MAX_EVENTS : 0);
    while (set.seen < count) {
        const Event& slot = state.events[set.seen % MAX_EVENTS];
        const Event event = slot;
        ++set.seen;
        // Overwritten while it was copied: the writer clears the sequence first.
        const bool is_whole = event.sequence == set.seen && load(slot.sequence) == set.seen;
        if (is_whole && event.gpu_index < MAX_GPUS &&
            (set.kinds[event.gpu_index] & event.kind) != 0) {
            data = {to_handle(event.gpu_index), event.kind, event.data, WHOLE_GPU, WHOLE_GPU};
            return true;
        }
    }
    return false;
}

bool watches_lost_gpu(const State& state, const nvmlEventSet_st& set) {
    for (std::size_t index = 0; index < MAX_GPUS; ++index) {
        if (set.kinds[index] != 0 && load(state.gpus[index].lost) != 0) {
            return true;
        }
    }
    return false;
}

nvmlReturn_t wait_for_event(nvmlEventSet_t set, nvmlEventData_t* data, unsigned int timeout_ms) {
    const State* state = nullptr;
    const auto deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
    while (true) {
        if (const nvmlReturn_t status = enter(CALLS_EVENT, state); status != NVML_SUCCESS) {
            return status;
        }
        if (set == nullptr || data == nullptr) {
            return NVML_ERROR_INVALID_ARGUMENT;
        }
        if (next_event(*state, *set, *data)) {
            return NVML_SUCCESS;
        }
        if (watches_lost_gpu(*state, *set)) {
            return NVML_ERROR_GPU_IS_LOST;
        }
        if (Clock::now() >= deadline) {
            return NVML_ERROR_TIMEOUT;
        }
        std::this_thread::sleep_until(std::min(deadline, Clock::now() + POLL));
    }
}

}  // namespace

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t* set) {
    const State* state = nullptr;
    if (const nvmlReturn_t status = enter(CALLS_EVENT, state); status != NVML_SUCCESS) {
        return status;
    }
    if (set == nullptr) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    *set = new (std::nothrow) nvmlEventSet_st{};
    if (*set == nullptr) {
        return NVML_ERROR_MEMORY;
    }
    (*set)->seen = load(state->event_count);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) {
    delete set;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long* kinds) {
    return answer(
        device, CALLS_EVENT,
        [=](const Gpu& gpu) {
            *kinds = supported_kinds(gpu);
            return NVML_SUCCESS;
        },
        kinds);
}

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long kinds,
                                      nvmlEventSet_t set) {
    return answer(
        device, CALLS_EVENT,
        [=](const Gpu& gpu) {
            if ((kinds & ~supported_kinds(gpu)) != 0) {
                return NVML_ERROR_NOT_SUPPORTED;
            }
            std::size_t gpu_index = 0;
            to_index(device, gpu_index);
            set->kinds[gpu_index] |= kinds;
            return NVML_SUCCESS;
        },
        set);
}

nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t* data, unsigned int timeout_ms) {
    return wait_for_event(set, data, timeout_ms);
}

nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t* data,
                                 unsigned int timeout_ms) {
    return wait_for_event(set, data, timeout_ms);
}
