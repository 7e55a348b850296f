// Device memory, pinned host memory, and what an address is.
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>

#include "cuda_context.h"
#include "cuda_device_memory.h"
#include "cuda_work.h"
#include "process_rows.h"

namespace gpuward::simulator {

namespace {

// What a driver address is to the process: real memory, so both views are one.
void* pointer(CUdeviceptr address) { return reinterpret_cast<void*>(address); }

CUdeviceptr address_of(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

constexpr std::size_t HOST_PAGE_BYTES = 4096;

std::size_t in_host_pages(std::size_t bytes) {
    return (bytes + HOST_PAGE_BYTES - 1) / HOST_PAGE_BYTES * HOST_PAGE_BYTES;
}

template <typename T>
CUresult answer(void* data, T value) {
    *static_cast<T*>(data) = value;
    return CUDA_SUCCESS;
}

}  // namespace

CUresult take_memory(CUdevice device, std::size_t size) {
    return take(state_file(), gpu_index(device), size) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

void give_back_memory(CUdevice device, std::size_t size) {
    give_back(state_file(), gpu_index(device), size);
}

CUresult allocate(std::size_t size, RangeKind kind, CUdeviceptr& address) {
    CUdevice device = 0;
    if (const CUresult status = enter_driver_of_current(device); status != CUDA_SUCCESS) {
        return status;
    }
    if (size == 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (size > gpu_of(device).memory_total_bytes) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    size = in_device_pages(size);
    if (const CUresult status = take_memory(device, size); status != CUDA_SUCCESS) {
        return status;
    }
    std::byte* start = map_device_pages(size, true);
    if (start == nullptr) {
        give_back_memory(device, size);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    addresses().add({start, size, device, kind});
    address = address_of(start);
    return CUDA_SUCCESS;
}

CUresult release(CUdeviceptr address, RangeKind kind) {
    if (address == 0) {
        return CUDA_SUCCESS;
    }
    const std::optional<Range> range = addresses().remove(pointer(address), kind);
    if (!range || !is_initialized()) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    const CUresult status = enter_driver(range->device);
    unmap_device_pages(range->start, range->size);
    give_back_memory(range->device, range->size);
    return status;
}

}  // namespace gpuward::simulator

using namespace gpuward::simulator;

extern "C" {

CUresult cuMemAlloc(CUdeviceptr* address, std::size_t size) {
    return allocate(size, RangeKind::DEVICE, *address);
}

// Waits for the device, unlike cuMemFreeAsync.
CUresult cuMemFree(CUdeviceptr address) {
    const std::optional<Range> range = addresses().find(pointer(address));
    if (range) {
        finish_all(range->device);
    }
    return release(address, RangeKind::DEVICE);
}

CUresult cuMemGetInfo(std::size_t* free, std::size_t* total) {
    CUdevice device = 0;
    if (const CUresult status = enter_driver_of_current(device); status != CUDA_SUCCESS) {
        return status;
    }
    *free = free_bytes(gpu_of(device));
    return cuDeviceTotalMem(total, device);
}

CUresult cuMemHostAlloc(void** memory, std::size_t size, unsigned int) {
    CUdevice device = 0;
    if (const CUresult status = enter_driver_of_current(device); status != CUDA_SUCCESS) {
        return status;
    }
    size = std::max(in_host_pages(size), HOST_PAGE_BYTES);
    void* mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    addresses().add({static_cast<std::byte*>(mapped), size, device, RangeKind::HOST});
    *memory = mapped;
    return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void* memory) {
    const std::optional<Range> range = addresses().remove(memory, RangeKind::HOST);
    if (!range) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    munmap(range->start, range->size);
    return CUDA_SUCCESS;
}

CUresult cuMemHostRegister(void* memory, std::size_t size, unsigned int) {
    CUdevice device = 0;
    if (const CUresult status = enter_driver_of_current(device); status != CUDA_SUCCESS) {
        return status;
    }
    if (addresses().find(memory)) {
        return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    }
    addresses().add({static_cast<std::byte*>(memory), size, device, RangeKind::REGISTERED});
    return CUDA_SUCCESS;
}

CUresult cuMemHostUnregister(void* memory) {
    return addresses().remove(memory, RangeKind::REGISTERED)
               ? CUDA_SUCCESS
               : CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
}

CUresult cuMemHostGetDevicePointer(CUdeviceptr* address, void* memory, unsigned int) {
    const std::optional<Range> range = addresses().find(memory);
    *address = address_of(memory);
    return range && range->is_host() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemGetAddressRange(CUdeviceptr* start, std::size_t* size, CUdeviceptr address) {
    const std::optional<Range> range = addresses().find(pointer(address));
    if (!range) {
        return CUDA_ERROR_NOT_FOUND;
    }
    if (start != nullptr) {
        *start = address_of(range->start);
    }
    if (size != nullptr) {
        *size = range->size;
    }
    return CUDA_SUCCESS;
}

CUresult cuPointerGetAttribute(void* data, CUpointer_attribute attribute, CUdeviceptr address) {
    const std::optional<Range> range = addresses().find(pointer(address));
    if (!range) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    switch (attribute) {
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
            return answer<unsigned>(data,
                                    range->is_host() ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE);
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
            return answer<int>(data, range->device);
        case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
            return answer<CUdeviceptr>(data, address);
        case CU_POINTER_ATTRIBUTE_HOST_POINTER:
            return answer<void*>(data, range->is_host() ? pointer(address) : nullptr);
        case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
            return answer<CUdeviceptr>(data, address_of(range->start));
        case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
            return answer<std::size_t>(data, range->size);
        case CU_POINTER_ATTRIBUTE_IS_MANAGED:
            return answer<unsigned>(data, 0);
        default:
            return CUDA_ERROR_NOT_SUPPORTED;
    }
}
}
