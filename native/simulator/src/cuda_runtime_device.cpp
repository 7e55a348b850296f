// Devices, contexts and errors of the runtime API.
#include <utility>

#include "cuda_errors.h"
#include "cuda_runtime.h"

namespace gpuward::simulator {

namespace {

thread_local cudaError_t last_error = cudaSuccess;

CUresult set_device(CUdevice device) {
    CUcontext context = nullptr;
    const CUresult status = cuDevicePrimaryCtxRetain(&context, device);
    return status == CUDA_SUCCESS ? cuCtxSetCurrent(context) : status;
}

struct IntProperty {
    int cudaDeviceProp::* member;
    CUdevice_attribute attribute;
};

constexpr IntProperty INT_PROPERTIES[] = {
    {&cudaDeviceProp::regsPerBlock, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK},
    {&cudaDeviceProp::warpSize, CU_DEVICE_ATTRIBUTE_WARP_SIZE},
    {&cudaDeviceProp::maxThreadsPerBlock, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK},
    {&cudaDeviceProp::major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR},
    {&cudaDeviceProp::minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR},
    {&cudaDeviceProp::multiProcessorCount, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT},
    {&cudaDeviceProp::canMapHostMemory, CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY},
    {&cudaDeviceProp::concurrentKernels, CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS},
    {&cudaDeviceProp::ECCEnabled, CU_DEVICE_ATTRIBUTE_ECC_ENABLED},
    {&cudaDeviceProp::pciBusID, CU_DEVICE_ATTRIBUTE_PCI_BUS_ID},
    {&cudaDeviceProp::pciDeviceID, CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID},
    {&cudaDeviceProp::pciDomainID, CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID},
    {&cudaDeviceProp::asyncEngineCount, CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT},
    {&cudaDeviceProp::unifiedAddressing, CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING},
    {&cudaDeviceProp::memoryBusWidth, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH},
    {&cudaDeviceProp::l2CacheSize, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE},
    {&cudaDeviceProp::maxThreadsPerMultiProcessor,
     CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR},
    {&cudaDeviceProp::streamPrioritiesSupported, CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED},
    {&cudaDeviceProp::globalL1CacheSupported, CU_DEVICE_ATTRIBUTE_GLOBAL_L1_CACHE_SUPPORTED},
    {&cudaDeviceProp::localL1CacheSupported, CU_DEVICE_ATTRIBUTE_LOCAL_L1_CACHE_SUPPORTED},
    {&cudaDeviceProp::regsPerMultiprocessor, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR},
    {&cudaDeviceProp::computePreemptionSupported, CU_DEVICE_ATTRIBUTE_COMPUTE_PREEMPTION_SUPPORTED},
    {&cudaDeviceProp::cooperativeLaunch, CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH},
    {&cudaDeviceProp::maxBlocksPerMultiProcessor,
     CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR},
    {&cudaDeviceProp::hostRegisterSupported, CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED},
    {&cudaDeviceProp::memoryPoolsSupported, CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED},
};

struct SizeProperty {
    std::size_t cudaDeviceProp::* member;
    CUdevice_attribute attribute;
};

constexpr SizeProperty SIZE_PROPERTIES[] = {
    {&cudaDeviceProp::sharedMemPerBlock, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK},
    {&cudaDeviceProp::totalConstMem, CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY},
    {&cudaDeviceProp::textureAlignment, CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT},
    {&cudaDeviceProp::texturePitchAlignment, CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT},
    {&cudaDeviceProp::sharedMemPerMultiprocessor,
     CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR},
    {&cudaDeviceProp::sharedMemPerBlockOptin,
     CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN},
    {&cudaDeviceProp::reservedSharedMemPerBlock,
     CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK},
};

int attribute_of(CUdevice device, CUdevice_attribute attribute) {
    int value = 0;
    cuDeviceGetAttribute(&value, attribute, device);
    return value;
}

void fill_properties(cudaDeviceProp& properties, CUdevice device) {
    cuDeviceGetName(properties.name, sizeof properties.name, device);
    cuDeviceGetUuid(&properties.uuid, device);
    cuDeviceTotalMem(&properties.totalGlobalMem, device);
    for (const IntProperty& each : INT_PROPERTIES) {
        properties.*each.member = attribute_of(device, each.attribute);
    }
    for (const SizeProperty& each : SIZE_PROPERTIES) {
        properties.*each.member = static_cast<std::size_t>(attribute_of(device, each.attribute));
    }
    for (int axis = 0; axis < 3; ++axis) {
        properties.maxThreadsDim[axis] = attribute_of(
            device, static_cast<CUdevice_attribute>(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X + axis));
        properties.maxGridSize[axis] = attribute_of(
            device, static_cast<CUdevice_attribute>(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X + axis));
    }
}

}  // namespace

cudaError_t report(CUresult status) {
    const auto error = static_cast<cudaError_t>(status);
    if (error != cudaSuccess) {
        last_error = error;
    }
    return error;
}

CUresult use_driver() { return cuInit(0); }

CUresult use_context() {
    const CUresult status = use_driver();
    CUcontext context = nullptr;
    if (status != CUDA_SUCCESS || (cuCtxGetCurrent(&context), context != nullptr)) {
        return status;
    }
    return set_device(0);
}

}  // namespace gpuward::simulator

using namespace gpuward::simulator;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
    *count = 0;
    return with_driver([&] { return cuDeviceGetCount(count); });
}

cudaError_t cudaGetDevice(int* device) {
    return with_driver([&] {
        if (cuCtxGetDevice(device) != CUDA_SUCCESS) {
            *device = 0;
        }
        return CUDA_SUCCESS;
    });
}

cudaError_t cudaSetDevice(int device) {
    return with_driver([&] { return set_device(device); });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    return with_driver([&] {
        CUdevice checked = 0;
        const CUresult status = cuDeviceGet(&checked, device);
        if (status == CUDA_SUCCESS) {
            *properties = {};
            fill_properties(*properties, checked);
        }
        return status;
    });
}

// The runtime's attributes have the driver's numbers.
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    return with_driver([&] {
        return cuDeviceGetAttribute(value, static_cast<CUdevice_attribute>(attribute), device);
    });
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
    return with_driver([&] { return cuDeviceGetPCIBusId(text, length, device); });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
    return in_context([&] { return cuCtxGetStreamPriorityRange(least, greatest); });
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
    return with_driver([&] { return cuDeviceCanAccessPeer(can, device, peer); });
}

cudaError_t cudaDeviceEnablePeerAccess(int, unsigned int flags) {
    return in_context([&] { return cuCtxEnablePeerAccess(nullptr, flags); });
}

cudaError_t cudaDeviceSynchronize() {
    return in_context([] { return cuCtxSynchronize(); });
}

cudaError_t cudaDriverGetVersion(int* version) {
    use_driver();
    return report(cuDriverGetVersion(version));
}

cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaPeekAtLastError() { return last_error; }

const char* cudaGetErrorName(cudaError_t error) {
    const ErrorText* found = find_error_text(error);
    return found == nullptr ? "unrecognized error code" : found->runtime_name;
}

const char* cudaGetErrorString(cudaError_t error) {
    const ErrorText* found = find_error_text(error);
    return found == nullptr ? "unrecognized error code" : found->text;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function,
                                             unsigned int version, unsigned long long flags,
                                             cudaDriverEntryPointQueryResult* result) {
    CUdriverProcAddressQueryResult found = CU_GET_PROC_ADDRESS_SUCCESS;
    const CUresult status =
        cuGetProcAddress(name, function, static_cast<int>(version), flags, &found);
    if (result != nullptr) {
        *result = static_cast<cudaDriverEntryPointQueryResult>(found);
    }
    // A name that the driver does not have is an answer, not an error.
    return status == CUDA_ERROR_NOT_FOUND ? cudaSuccess : report(status);
}
}
