#include "cuda_work.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "cuda_context.h"

namespace gpuward::simulator {

namespace {

struct Progress {
    std::uint64_t begun = 0;
    std::uint64_t done = 0;
};

// The default stream is one for each device, hence both.
using Key = std::pair<CUdevice, CUstream>;

struct Work {
    std::mutex mutex;
    std::map<Key, Progress> streams;
};

// Never destroyed: torch waits for streams from its own exit handlers.
Work& work() {
    static auto* all = new Work;
    return *all;
}

}  // namespace

Moment end_of_work(CUdevice device, CUstream stream) {
    const std::lock_guard lock(work().mutex);
    const auto found = work().streams.find({device, stream});
    return {device, stream, found == work().streams.end() ? 0 : found->second.begun};
}

bool is_done(const Moment& moment) {
    const std::lock_guard lock(work().mutex);
    const auto found = work().streams.find({moment.device, moment.stream});
    return found == work().streams.end() || found->second.done >= moment.begun;
}

void finish(const Moment& moment) {
    const std::lock_guard lock(work().mutex);
    const auto found = work().streams.find({moment.device, moment.stream});
    if (found != work().streams.end()) {
        found->second.done = std::max(found->second.done, moment.begun);
    }
}

void finish_all(CUdevice device) {
    const std::lock_guard lock(work().mutex);
    for (auto& [key, progress] : work().streams) {
        if (key.first == device) {
            progress.done = progress.begun;
        }
    }
}

void forget_work(CUstream stream) {
    const std::lock_guard lock(work().mutex);
    std::erase_if(work().streams, [&](const auto& each) { return each.first.second == stream; });
}

}  // namespace gpuward::simulator

using namespace gpuward::simulator;

extern "C" {

// Give `stream` of the current device work that lasts until somebody waits for it; for tests.
CUresult gpuward_simulator_keep_busy(CUstream stream) {
    CUdevice device = 0;
    const CUresult status = current_device(device);
    if (status == CUDA_SUCCESS) {
        const std::lock_guard lock(work().mutex);
        ++work().streams[{device, stream}].begun;
    }
    return status;
}
}
