// Stream-ordered memory: one default pool for each device.
//
// Work here is done when it is queued, so a pool keeps nothing back and its reserved memory is its
// used memory.
#include <atomic>
#include <cstdint>
#include <optional>

#include "cuda_context.h"
#include "cuda_device_memory.h"

struct CUmemPoolHandle_st {
    std::atomic<std::uint64_t> used;
    std::atomic<std::uint64_t> used_high;
    std::atomic<std::uint64_t> release_threshold;
};

namespace gpuward::simulator {

namespace {

CUmemPoolHandle_st pools[MAX_GPUS];

void count(CUmemPoolHandle_st& pool, std::size_t size) {
    const std::uint64_t used = pool.used.fetch_add(size) + size;
    std::uint64_t high = pool.used_high.load();
    while (high < used && !pool.used_high.compare_exchange_weak(high, used)) {
    }
}

}  // namespace

}  // namespace gpuward::simulator

using namespace gpuward::simulator;

extern "C" {

CUresult cuMemAllocAsync(CUdeviceptr* address, std::size_t size, CUstream) {
    const CUresult status = allocate(size, RangeKind::POOLED, *address);
    if (status == CUDA_SUCCESS) {
        CUdevice device = 0;
        current_device(device);
        count(pools[device], in_device_pages(size));
    }
    return status;
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream) {
    const std::optional<Range> range = addresses().find(reinterpret_cast<void*>(address));
    const CUresult status = release(address, RangeKind::POOLED);
    if (range && status != CUDA_ERROR_INVALID_VALUE) {
        pools[range->device].used.fetch_sub(range->size);
    }
    return status;
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* pool, CUdevice device) {
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    *pool = &pools[device];
    return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void* value) {
    switch (attribute) {
        case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
        case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
            *static_cast<cuuint64_t*>(value) = pool->used;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
        case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
            *static_cast<cuuint64_t*>(value) = pool->used_high;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
            *static_cast<cuuint64_t*>(value) = pool->release_threshold;
            return CUDA_SUCCESS;
        default:
            return CUDA_ERROR_NOT_SUPPORTED;
    }
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void* value) {
    switch (attribute) {
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH:  // only 0 is allowed: a reset
        case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
            pool->used_high = pool->used.load();
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
            pool->release_threshold = *static_cast<cuuint64_t*>(value);
            return CUDA_SUCCESS;
        default:  // what to reuse when: nothing is ever kept
            return CUDA_SUCCESS;
    }
}

CUresult cuMemPoolTrimTo(CUmemoryPool, std::size_t) { return CUDA_SUCCESS; }

CUresult cuMemPoolSetAccess(CUmemoryPool, const CUmemAccessDesc*, std::size_t) {
    return CUDA_SUCCESS;
}
}
