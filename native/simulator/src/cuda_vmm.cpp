// Virtual memory management: reserve addresses, create memory, map one into the other.
//
// torch's expandable segments live on these calls.  Memory counts from creation to the last of its
// release and unmapping, as in CUDA.  It has no backing of its own, the address range has, so
// it can be mapped at one place at a time and not be shared with another process.
#include <sys/mman.h>

#include <cstdint>
#include <map>
#include <mutex>

#include "cuda_context.h"
#include "cuda_device_memory.h"

namespace gpuward::simulator {

namespace {

struct Created {
    std::size_t size;
    CUdevice device;
    bool is_released = false;
    bool is_mapped = false;
};

using Handle = CUmemGenericAllocationHandle;

struct Mapping {
    std::size_t size;
    Handle handle;
};

struct VirtualMemory {
    std::mutex mutex;
    Handle next_handle = 1;
    std::map<Handle, Created> created;
    std::map<CUdeviceptr, Mapping> mappings;

    void drop_if_unused(Handle handle) {
        const Created& memory = created.at(handle);
        if (memory.is_released && !memory.is_mapped) {
            give_back_memory(memory.device, memory.size);
            created.erase(handle);
        }
    }
};

// Never destroyed: torch unmaps from its own exit handlers.
VirtualMemory& virtual_memory() {
    static auto* memory = new VirtualMemory;
    return *memory;
}

std::byte* pointer(CUdeviceptr address) { return reinterpret_cast<std::byte*>(address); }

bool is_whole_pages(std::size_t size) { return size != 0 && size % DEVICE_PAGE_BYTES == 0; }

bool is_reserved(CUdeviceptr address, std::size_t size) {
    const std::optional<Range> range = addresses().find(pointer(address));
    return range && range->kind == RangeKind::RESERVED &&
           pointer(address) + size <= range->start + range->size;
}

}  // namespace

}  // namespace gpuward::simulator

using namespace gpuward::simulator;

extern "C" {

CUresult cuMemGetAllocationGranularity(std::size_t* granularity, const CUmemAllocationProp*,
                                       CUmemAllocationGranularity_flags) {
    *granularity = DEVICE_PAGE_BYTES;
    return CUDA_SUCCESS;
}

CUresult cuMemAddressReserve(CUdeviceptr* address, std::size_t size, std::size_t, CUdeviceptr,
                             unsigned long long) {
    if (!is_initialized()) {
        return CUDA_ERROR_NOT_INITIALIZED;
    }
    if (!is_whole_pages(size)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    std::byte* start = map_device_pages(size, false);
    if (start == nullptr) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    CUdevice device = 0;
    current_device(device);
    addresses().add({start, size, device, RangeKind::RESERVED});
    *address = reinterpret_cast<CUdeviceptr>(start);
    return CUDA_SUCCESS;
}

CUresult cuMemAddressFree(CUdeviceptr address, std::size_t) {
    const std::optional<Range> range = addresses().remove(pointer(address), RangeKind::RESERVED);
    if (!range) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    unmap_device_pages(range->start, range->size);
    return CUDA_SUCCESS;
}

CUresult cuMemCreate(Handle* handle, std::size_t size, const CUmemAllocationProp* properties,
                     unsigned long long) {
    const CUdevice device = properties->location.id;
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    if (properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE || !is_whole_pages(size)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (const CUresult status = enter_driver(device); status != CUDA_SUCCESS) {
        return status;
    }
    if (const CUresult status = take_memory(device, size); status != CUDA_SUCCESS) {
        return status;
    }
    VirtualMemory& memory = virtual_memory();
    const std::lock_guard lock(memory.mutex);
    *handle = memory.next_handle++;
    memory.created.emplace(*handle, Created{size, device});
    return CUDA_SUCCESS;
}

CUresult cuMemRelease(Handle handle) {
    VirtualMemory& memory = virtual_memory();
    const std::lock_guard lock(memory.mutex);
    const auto found = memory.created.find(handle);
    if (found == memory.created.end() || found->second.is_released) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    found->second.is_released = true;
    memory.drop_if_unused(handle);
    return CUDA_SUCCESS;
}

CUresult cuMemMap(CUdeviceptr address, std::size_t size, std::size_t offset, Handle handle,
                  unsigned long long) {
    VirtualMemory& memory = virtual_memory();
    const std::lock_guard lock(memory.mutex);
    const auto found = memory.created.find(handle);
    if (found == memory.created.end() || !is_reserved(address, size) || offset != 0 ||
        size != found->second.size) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (found->second.is_mapped) {
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    found->second.is_mapped = true;
    memory.mappings.emplace(address, Mapping{size, handle});
    return check_alive(found->second.device);
}

CUresult cuMemSetAccess(CUdeviceptr address, std::size_t size, const CUmemAccessDesc*,
                        std::size_t) {
    if (!is_reserved(address, size) ||
        mprotect(pointer(address), size, PROT_READ | PROT_WRITE) != 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

CUresult cuMemUnmap(CUdeviceptr address, std::size_t size) {
    if (!is_reserved(address, size)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    VirtualMemory& memory = virtual_memory();
    const std::lock_guard lock(memory.mutex);
    auto mapping = memory.mappings.lower_bound(address);
    while (mapping != memory.mappings.end() && mapping->first < address + size) {
        const Handle handle = mapping->second.handle;
        memory.created.at(handle).is_mapped = false;
        memory.drop_if_unused(handle);
        mapping = memory.mappings.erase(mapping);
    }
    discard_contents(pointer(address), size);
    mprotect(pointer(address), size, PROT_NONE);
    return CUDA_SUCCESS;
}
}
