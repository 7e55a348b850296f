// NVML: events about no GPU's work: the driver is asked to leave a GPU, or took it again.
#include <algorithm>
#include <chrono>
#include <new>
#include <thread>

#include "nvml_session.h"

using namespace gpuward::simulator;
using Clock = std::chrono::steady_clock;

struct nvmlSystemEventSet_st {
    unsigned long long kinds = 0;
    std::uint32_t unbinds_seen = 0;
    std::uint32_t binds_seen = 0;
};

namespace {

constexpr std::chrono::milliseconds POLL{2};
constexpr unsigned int SINCE_DRIVER = 575;
constexpr unsigned long long KINDS =
    nvmlSystemEventTypeGpuDriverUnbind | nvmlSystemEventTypeGpuDriverBind;

nvmlReturn_t enter_events(unsigned int version, unsigned int expected, const State*& state) {
    if (const nvmlReturn_t status = enter(CALLS_EVENT, state); status != NVML_SUCCESS) {
        return status;
    }
    if (!driver_is_at_least(SINCE_DRIVER)) {
        return NVML_ERROR_NOT_SUPPORTED;
    }
    return version == expected ? NVML_SUCCESS : NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
}

// Add an event for what happened since it was looked at last, when there is room and it is wanted.
void collect(nvmlSystemEventSetWaitRequest_t& request, unsigned long long kind, std::uint32_t& seen,
             std::uint32_t count) {
    const bool is_wanted = (request.set->kinds & kind) != 0;
    if (seen == count || (is_wanted && request.numEvent >= request.dataSize)) {
        return;
    }
    seen = count;
    if (is_wanted) {
        request.data[request.numEvent++] = {kind, 0};
    }
}

}  // namespace

nvmlReturn_t nvmlSystemEventSetCreate(nvmlSystemEventSetCreateRequest_t* request) {
    const State* state = nullptr;
    if (request == nullptr) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    if (const nvmlReturn_t status =
            enter_events(request->version, nvmlSystemEventSetCreateRequest_v1, state);
        status != NVML_SUCCESS) {
        return status;
    }
    request->set = new (std::nothrow)
        nvmlSystemEventSet_st{0, load(state->unbind_count), load(state->bind_count)};
    return request->set == nullptr ? NVML_ERROR_MEMORY : NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemEventSetFree(nvmlSystemEventSetFreeRequest_t* request) {
    if (request == nullptr) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    delete request->set;
    request->set = nullptr;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemRegisterEvents(nvmlSystemRegisterEventRequest_t* request) {
    const State* state = nullptr;
    if (request == nullptr || request->set == nullptr) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    if (const nvmlReturn_t status =
            enter_events(request->version, nvmlSystemRegisterEventRequest_v1, state);
        status != NVML_SUCCESS) {
        return status;
    }
    if ((request->eventTypes & ~KINDS) != 0) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    request->set->kinds |= request->eventTypes;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemEventSetWait(nvmlSystemEventSetWaitRequest_t* request) {
    const State* state = nullptr;
    if (request == nullptr || request->set == nullptr || request->data == nullptr) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    const auto deadline = Clock::now() + std::chrono::milliseconds(request->timeoutms);
    request->numEvent = 0;
    while (true) {
        if (const nvmlReturn_t status =
                enter_events(request->version, nvmlSystemEventSetWaitRequest_v1, state);
            status != NVML_SUCCESS) {
            return status;
        }
        collect(*request, nvmlSystemEventTypeGpuDriverUnbind, request->set->unbinds_seen,
                load(state->unbind_count));
        collect(*request, nvmlSystemEventTypeGpuDriverBind, request->set->binds_seen,
                load(state->bind_count));
        if (request->numEvent > 0) {
            return NVML_SUCCESS;
        }
        if (Clock::now() >= deadline) {
            return NVML_ERROR_TIMEOUT;
        }
        std::this_thread::sleep_until(std::min(deadline, Clock::now() + POLL));
    }
}
