// Taking and giving back memory of a simulated GPU; NVML shows it as this process's.
#pragma once

#include <cuda.h>

#include "cuda_addresses.h"

namespace gpuward::simulator {

// Counts `size` bytes, a multiple of DEVICE_PAGE_BYTES, as this process's; out of memory when the
// GPU has not so much free, whoever holds it.
CUresult take_memory(CUdevice device, std::size_t size);
void give_back_memory(CUdevice device, std::size_t size);

// Accessible device memory of at least `size` bytes on the current device.
CUresult allocate(std::size_t size, RangeKind kind, CUdeviceptr& address);
CUresult release(CUdeviceptr address, RangeKind kind);

}  // namespace gpuward::simulator
