// Copies and fills.  Both ends are memory of this process, so they really move the bytes, at once.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "cuda_addresses.h"
#include "cuda_context.h"

namespace gpuward::simulator {

namespace {

std::byte* pointer(CUdeviceptr address) { return reinterpret_cast<std::byte*>(address); }

CUresult move_bytes(void* to, const void* from, std::size_t size) {
    CUdevice device = 0;
    const CUresult status = enter_driver_of_current(device);
    if (status == CUDA_SUCCESS) {
        std::memmove(to, from, size);
    }
    return status;
}

// Zeroing device memory gives its whole pages back instead of writing them, so that a zeroed
// 80 GB tensor costs nothing either.
void fill_with_zeros(std::byte* start, std::size_t size) {
    const std::optional<Range> range = addresses().find(start);
    const auto first = reinterpret_cast<std::uintptr_t>(start);
    const std::uintptr_t inner = in_device_pages(first);
    const std::uintptr_t inner_end = (first + size) / DEVICE_PAGE_BYTES * DEVICE_PAGE_BYTES;
    if (!range || range->is_host() || inner >= inner_end) {
        std::memset(start, 0, size);
        return;
    }
    std::memset(start, 0, inner - first);
    discard_contents(start + (inner - first), inner_end - inner);
    std::memset(start + (inner_end - first), 0, first + size - inner_end);
}

template <typename T>
CUresult fill(CUdeviceptr address, T value, std::size_t count) {
    CUdevice device = 0;
    const CUresult status = enter_driver_of_current(device);
    if (status != CUDA_SUCCESS) {
        return status;
    }
    if (value == 0) {
        fill_with_zeros(pointer(address), count * sizeof(T));
    } else {
        std::fill_n(reinterpret_cast<T*>(address), count, value);
    }
    return CUDA_SUCCESS;
}

const std::byte* source(const CUDA_MEMCPY2D& copy) {
    const bool is_host = copy.srcMemoryType == CU_MEMORYTYPE_HOST;
    const auto* start =
        is_host ? static_cast<const std::byte*>(copy.srcHost) : pointer(copy.srcDevice);
    return start + copy.srcY * copy.srcPitch + copy.srcXInBytes;
}

std::byte* destination(const CUDA_MEMCPY2D& copy) {
    const bool is_host = copy.dstMemoryType == CU_MEMORYTYPE_HOST;
    auto* start = is_host ? static_cast<std::byte*>(copy.dstHost) : pointer(copy.dstDevice);
    return start + copy.dstY * copy.dstPitch + copy.dstXInBytes;
}

}  // namespace

}  // namespace gpuward::simulator

using namespace gpuward::simulator;

extern "C" {

CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, std::size_t size) {
    return move_bytes(pointer(to), pointer(from), size);
}

CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, std::size_t size, CUstream) {
    return move_bytes(pointer(to), pointer(from), size);
}

CUresult cuMemcpyHtoD(CUdeviceptr to, const void* from, std::size_t size) {
    return move_bytes(pointer(to), from, size);
}

CUresult cuMemcpyDtoH(void* to, CUdeviceptr from, std::size_t size) {
    return move_bytes(to, pointer(from), size);
}

CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, std::size_t size) {
    return move_bytes(pointer(to), pointer(from), size);
}

CUresult cuMemcpy2DAsync(const CUDA_MEMCPY2D* rows, CUstream) {
    CUdevice device = 0;
    const CUresult status = enter_driver_of_current(device);
    if (status != CUDA_SUCCESS) {
        return status;
    }
    for (std::size_t row = 0; row < rows->Height; ++row) {
        std::memmove(destination(*rows) + row * rows->dstPitch,
                     source(*rows) + row * rows->srcPitch, rows->WidthInBytes);
    }
    return CUDA_SUCCESS;
}

CUresult cuMemsetD8Async(CUdeviceptr address, unsigned char value, std::size_t count, CUstream) {
    return fill<unsigned char>(address, value, count);
}

CUresult cuMemsetD32Async(CUdeviceptr address, unsigned int value, std::size_t count, CUstream) {
    return fill<unsigned int>(address, value, count);
}
}
