// Which streams still have work to do.
//
// Work takes no time here, save what gpuward_simulator_keep_busy gives a stream: that lasts until
// somebody waits for it, and then it is done at once.  So what a program does while a stream is
// busy, torch's allocator above all, is the same in every run.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace gpuward::simulator {

// A point in a stream's work.
struct Moment {
    CUdevice device = 0;
    CUstream stream = nullptr;
    std::uint64_t begun = 0;
};

// All that `stream` of `device` has been given until now.
Moment end_of_work(CUdevice device, CUstream stream);

bool is_done(const Moment& moment);
void finish(const Moment& moment);
void finish_all(CUdevice device);
void forget_work(CUstream stream);

}  // namespace gpuward::simulator
