// Which simulated GPU a CUDA call is about, and whether it may go on.
//
// As in CUDA, a thread has a current context and a context belongs to one device.  Only primary
// contexts exist here.  A device is an ordinal after CUDA_VISIBLE_DEVICES; a GPU is an index of the
// state file.
#pragma once

#include <cuda.h>

#include "state_file.h"

struct CUctx_st {
    CUdevice device;
};

namespace gpuward::simulator {

// What a context of one process costs before its first tensor: measured on an H100, driver 580.
inline constexpr std::uint64_t CONTEXT_BYTES = 520ull << 20;

// Invalid after fork, as in CUDA, and before cuInit.
bool is_initialized();

const StateFile& state_file();

int device_count();
bool is_device(CUdevice device);
std::size_t gpu_index(CUdevice device);
const Gpu& gpu_of(CUdevice device);

// The device of the calling thread's context; nothing is done and the error returned without one.
CUresult current_device(CUdevice& device);

// CUDA_ERROR_UNKNOWN for a GPU that fell off the bus or whose driver is gone.
CUresult check_alive(CUdevice device);

// What every call that reaches the kernel driver does first: be as slow as the scenario says, then
// check_alive.  Calls that only queue work use check_alive alone.
CUresult enter_driver(CUdevice device);
CUresult enter_driver_of_current(CUdevice& device);

CUresult activate(CUdevice device);

}  // namespace gpuward::simulator
