// Who holds how much memory of a simulated GPU; state.h says how rows are shared.
#pragma once

#include "state_file.h"

namespace gpuward::simulator {

// False for a free row, and for one whose process exited (a zombie holds no device memory) or
// whose pid belongs to a younger process.
bool is_alive(const Process& row);

// What the driver and living processes use; without the reserved part.
std::uint64_t used_bytes(const Gpu& gpu);

// total - reserved - used; never negative.
std::uint64_t free_bytes(const Gpu& gpu);

// What living processes use of the GPU's MIG device with this number, counted from 1.
std::uint64_t used_bytes(const Gpu& gpu, std::uint32_t mig_device);

// Give the calling process `size` bytes more; false when so much is not free, or no row is.
// Size 0 makes the process visible in NVML's process lists.
bool take(const StateFile& file, std::size_t gpu_index, std::uint64_t size);

// Return memory of the calling process; never below zero, and the process stays visible.
void give_back(const StateFile& file, std::size_t gpu_index, std::uint64_t size);

// Drop the calling process from every GPU, as its exit does.
void forget(const StateFile& file);

}  // namespace gpuward::simulator
