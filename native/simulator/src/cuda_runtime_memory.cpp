// Memory, copies and pools of the runtime API: the driver's, under other names.
#include "cuda_runtime.h"

namespace gpuward::simulator {

namespace {

CUdeviceptr address_of(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

// CUDA's addresses are unified: which way a copy goes follows from them, so `kind` is not needed.
cudaError_t copy(void* to, const void* from, std::size_t size) {
    return in_context([&] { return cuMemcpy(address_of(to), address_of(from), size); });
}

CUmemoryPool driver_pool(cudaMemPool_t pool) { return static_cast<CUmemoryPool>(pool); }

// What the driver says of an address it knows.
void fill_attributes(cudaPointerAttributes& attributes, CUdeviceptr address) {
    unsigned memory_type = 0;
    cuPointerGetAttribute(&memory_type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address);
    attributes.type = memory_type == CU_MEMORYTYPE_HOST ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
    cuPointerGetAttribute(&attributes.device, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address);
    cuPointerGetAttribute(&attributes.devicePointer, CU_POINTER_ATTRIBUTE_DEVICE_POINTER, address);
    cuPointerGetAttribute(&attributes.hostPointer, CU_POINTER_ATTRIBUTE_HOST_POINTER, address);
}

}  // namespace

}  // namespace gpuward::simulator

using namespace gpuward::simulator;

extern "C" {

cudaError_t cudaMalloc(void** memory, std::size_t size) {
    *memory = nullptr;
    return in_context([&] {
        return size == 0 ? CUDA_SUCCESS : cuMemAlloc(reinterpret_cast<CUdeviceptr*>(memory), size);
    });
}

cudaError_t cudaFree(void* memory) {
    return in_context([&] { return cuMemFree(address_of(memory)); });
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
    return in_context([&] { return cuMemGetInfo(free, total); });
}

cudaError_t cudaHostAlloc(void** memory, std::size_t size, unsigned int flags) {
    return in_context([&] { return cuMemHostAlloc(memory, size, flags); });
}

cudaError_t cudaMallocHost(void** memory, std::size_t size) {
    return cudaHostAlloc(memory, size, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void* memory) {
    return with_driver([&] { return memory == nullptr ? CUDA_SUCCESS : cuMemFreeHost(memory); });
}

cudaError_t cudaHostRegister(void* memory, std::size_t size, unsigned int flags) {
    return in_context([&] { return cuMemHostRegister(memory, size, flags); });
}

cudaError_t cudaHostUnregister(void* memory) {
    return in_context([&] { return cuMemHostUnregister(memory); });
}

cudaError_t cudaHostGetDevicePointer(void** device, void* memory, unsigned int flags) {
    return in_context([&] {
        return cuMemHostGetDevicePointer(reinterpret_cast<CUdeviceptr*>(device), memory, flags);
    });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
    return with_driver([&] {
        *attributes = {};
        CUdeviceptr start = 0;
        if (cuMemGetAddressRange(&start, nullptr, address_of(memory)) == CUDA_SUCCESS) {
            fill_attributes(*attributes, address_of(memory));
        } else {
            attributes->type = cudaMemoryTypeUnregistered;
            attributes->device = cudaInvalidDeviceId;
        }
        return CUDA_SUCCESS;
    });
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t size, cudaMemcpyKind) {
    return copy(to, from, size);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t size, cudaMemcpyKind,
                            cudaStream_t) {
    return copy(to, from, size);
}

cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, std::size_t size,
                                cudaStream_t) {
    return copy(to, from, size);
}

cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from,
                              std::size_t from_pitch, std::size_t width, std::size_t height,
                              cudaMemcpyKind, cudaStream_t stream) {
    CUDA_MEMCPY2D rows{};
    rows.srcMemoryType = CU_MEMORYTYPE_UNIFIED;
    rows.srcDevice = address_of(from);
    rows.srcPitch = from_pitch;
    rows.dstMemoryType = CU_MEMORYTYPE_UNIFIED;
    rows.dstDevice = address_of(to);
    rows.dstPitch = to_pitch;
    rows.WidthInBytes = width;
    rows.Height = height;
    return in_context([&] { return cuMemcpy2DAsync(&rows, stream); });
}

cudaError_t cudaMemset(void* memory, int value, std::size_t size) {
    return cudaMemsetAsync(memory, value, size, nullptr);
}

cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t size, cudaStream_t stream) {
    return in_context([&] {
        return cuMemsetD8Async(address_of(memory), static_cast<unsigned char>(value), size, stream);
    });
}

// A device variable is its host shadow: kernels do nothing, so there is only one reader.
cudaError_t cudaGetSymbolAddress(void** memory, const void* symbol) {
    *memory = const_cast<void*>(symbol);
    return cudaSuccess;
}

cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* from, std::size_t size,
                               std::size_t offset, cudaMemcpyKind) {
    return copy(static_cast<char*>(const_cast<void*>(symbol)) + offset, from, size);
}

cudaError_t cudaMallocAsync(void** memory, std::size_t size, cudaStream_t stream) {
    return in_context(
        [&] { return cuMemAllocAsync(reinterpret_cast<CUdeviceptr*>(memory), size, stream); });
}

cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream) {
    return in_context([&] { return cuMemFreeAsync(address_of(memory), stream); });
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
    return with_driver([&] { return cuDeviceGetDefaultMemPool(pool, device); });
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
    return report(cuMemPoolGetAttribute(driver_pool(pool),
                                        static_cast<CUmemPool_attribute>(attribute), value));
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
    return report(cuMemPoolSetAttribute(driver_pool(pool),
                                        static_cast<CUmemPool_attribute>(attribute), value));
}

cudaError_t cudaMemPoolSetAccess(cudaMemPool_t pool, const cudaMemAccessDesc*, std::size_t count) {
    return report(cuMemPoolSetAccess(driver_pool(pool), nullptr, count));
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, std::size_t kept) {
    return report(cuMemPoolTrimTo(driver_pool(pool), kept));
}

// Memory of graphs: there are none.
cudaError_t cudaDeviceGetGraphMemAttribute(int, cudaGraphMemAttributeType, void* value) {
    *static_cast<cuuint64_t*>(value) = 0;
    return cudaSuccess;
}

cudaError_t cudaDeviceSetGraphMemAttribute(int, cudaGraphMemAttributeType, void*) {
    return cudaSuccess;
}
}
