// What a simulated device says about itself.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda_context.h"

namespace gpuward::simulator {

namespace {

// CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"; L2: the data sheet
// of the largest board of that capability.
struct Architecture {
    unsigned major, minor;
    int shared_bytes_per_multiprocessor;
    int threads_per_multiprocessor;
    int blocks_per_multiprocessor;
    int l2_bytes;
};

constexpr Architecture ARCHITECTURES[] = {
    {7, 0, 98'304, 2048, 32, 6 << 20},     {7, 5, 65'536, 1024, 16, 6 << 20},
    {8, 0, 167'936, 2048, 32, 40 << 20},   {8, 6, 102'400, 1536, 16, 6 << 20},
    {8, 9, 102'400, 1536, 24, 72 << 20},   {9, 0, 233'472, 2048, 32, 50 << 20},
    {10, 0, 233'472, 2048, 32, 126 << 20}, {12, 0, 102'400, 1536, 24, 96 << 20},
};

constexpr int RESERVED_SHARED_BYTES_PER_BLOCK = 1024;

const Architecture& architecture_of(const Gpu& gpu) {
    for (const Architecture& each : ARCHITECTURES) {
        if (each.major == gpu.compute_capability_major &&
            each.minor == gpu.compute_capability_minor) {
            return each;
        }
    }
    return ARCHITECTURES[5];
}

// Attributes that differ from GPU to GPU; false for the others.
bool gpu_attribute(const Gpu& gpu, CUdevice_attribute attribute, int& value) {
    const Architecture& architecture = architecture_of(gpu);
    switch (attribute) {
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
            value = static_cast<int>(gpu.compute_capability_major);
            return true;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
            value = static_cast<int>(gpu.compute_capability_minor);
            return true;
        case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
            value = static_cast<int>(gpu.multiprocessor_count);
            return true;
        case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:  // kilohertz
            value = static_cast<int>(gpu.sm_clock_max_megahertz * 1000);
            return true;
        case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE:  // kilohertz
            value = static_cast<int>(gpu.memory_clock_max_megahertz * 1000);
            return true;
        case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH:
            value = static_cast<int>(gpu.memory_bus_width_bits);
            return true;
        case CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID:
            value = static_cast<int>(gpu.pci_domain);
            return true;
        case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
            value = static_cast<int>(gpu.pci_bus);
            return true;
        case CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID:
            value = static_cast<int>(gpu.pci_device);
            return true;
        case CU_DEVICE_ATTRIBUTE_ECC_ENABLED:
            value = static_cast<int>(gpu.ecc_mode_current);
            return true;
        case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE:
            value = architecture.l2_bytes;
            return true;
        case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR:
            value = architecture.threads_per_multiprocessor;
            return true;
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR:
            value = architecture.blocks_per_multiprocessor;
            return true;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR:
            value = architecture.shared_bytes_per_multiprocessor;
            return true;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
            value = architecture.shared_bytes_per_multiprocessor - RESERVED_SHARED_BYTES_PER_BLOCK;
            return true;
        default:
            return false;
    }
}

// The same on every GPU since Volta.  What is not listed is 0: not supported here.
int common_attribute(CUdevice_attribute attribute) {
    switch (attribute) {
        case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y:
            return 1024;
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z:
            return 64;
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X:
            return 2'147'483'647;
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z:
            return 65'535;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:
            return 49'152;
        case CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK:
            return RESERVED_SHARED_BYTES_PER_BLOCK;
        case CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY:
        case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
        case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR:
            return 65'536;
        case CU_DEVICE_ATTRIBUTE_WARP_SIZE:
            return 32;
        case CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT:
            return 512;
        case CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT:
            return 32;
        case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT:
            return 3;
        case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY:
        case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS:
        case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
        case CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_GLOBAL_L1_CACHE_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_LOCAL_L1_CACHE_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_COMPUTE_PREEMPTION_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH:
        case CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED:
            return 1;
        default:
            return 0;
    }
}

// "GPU-8e53f7e2-...": the sixteen bytes after the prefix.
void parse_uuid(const char* text, CUuuid& uuid) {
    std::memset(&uuid, 0, sizeof uuid);
    std::size_t nibble = 0;
    for (const char* at = std::strchr(text, '-'); at != nullptr && *at && nibble < 32; ++at) {
        const char digit[] = {*at, '\0'};
        if (*at != '-') {
            const auto value = static_cast<unsigned>(std::strtoul(digit, nullptr, 16));
            uuid.bytes[nibble / 2] =
                static_cast<char>(static_cast<unsigned char>(uuid.bytes[nibble / 2]) << 4 | value);
            ++nibble;
        }
    }
}

CUresult no_device() {
    return is_initialized() ? CUDA_ERROR_INVALID_DEVICE : CUDA_ERROR_NOT_INITIALIZED;
}

}  // namespace

}  // namespace gpuward::simulator

using namespace gpuward::simulator;

extern "C" {

CUresult cuDriverGetVersion(int* version) {
    *version = is_initialized() ? static_cast<int>(state_file().state->cuda_version) : CUDA_VERSION;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int* count) {
    *count = device_count();
    return is_initialized() ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    *device = ordinal;
    return is_device(ordinal) ? CUDA_SUCCESS : no_device();
}

CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
    if (!is_device(device)) {
        return no_device();
    }
    std::snprintf(name, static_cast<std::size_t>(length), "%s", gpu_of(device).name);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice device) {
    if (!is_device(device)) {
        return no_device();
    }
    parse_uuid(gpu_of(device).uuid, *uuid);
    return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(std::size_t* bytes, CUdevice device) {
    if (!is_device(device)) {
        return no_device();
    }
    *bytes = gpu_of(device).memory_total_bytes - gpu_of(device).memory_reserved_bytes;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetPCIBusId(char* text, int length, CUdevice device) {
    if (!is_device(device)) {
        return no_device();
    }
    const Gpu& gpu = gpu_of(device);
    std::snprintf(text, static_cast<std::size_t>(length), "%04X:%02X:%02X.0", gpu.pci_domain,
                  gpu.pci_bus, gpu.pci_device);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
    if (!is_device(device)) {
        return no_device();
    }
    if (!gpu_attribute(gpu_of(device), attribute, *value)) {
        *value = common_attribute(attribute);
    }
    return CUDA_SUCCESS;
}

CUresult cuDeviceCanAccessPeer(int* can, CUdevice device, CUdevice peer) {
    if (!is_device(device) || !is_device(peer)) {
        return no_device();
    }
    *can = device != peer;
    return CUDA_SUCCESS;
}

// Every device's memory is this process's memory, so access needs no setting up.
CUresult cuCtxEnablePeerAccess(CUcontext, unsigned int) {
    return is_initialized() ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}
}
