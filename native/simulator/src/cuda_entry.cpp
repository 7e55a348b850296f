// Kernels, error texts, log callbacks, and how the runtime finds driver functions by name.
#include <dlfcn.h>

#include <atomic>
#include <string>

#include "cuda_context.h"
#include "cuda_errors.h"

namespace gpuward::simulator {

namespace {

std::atomic<unsigned long long> launches;

struct EntryPoint {
    const char* name;
    void* function;
};

// cuda.h maps each name to the newest version of the function, as cuGetProcAddress does.
#define ENTRY(name) {#name, reinterpret_cast<void*>(&name)}
const EntryPoint ENTRY_POINTS[] = {
    ENTRY(cuCtxGetCurrent),
    ENTRY(cuCtxGetDevice),
    ENTRY(cuCtxSetCurrent),
    ENTRY(cuDeviceGet),
    ENTRY(cuDeviceGetAttribute),
    ENTRY(cuDeviceGetUuid),
    ENTRY(cuDevicePrimaryCtxRetain),
    ENTRY(cuGetErrorName),
    ENTRY(cuGetErrorString),
    ENTRY(cuLaunchKernel),
    ENTRY(cuMemAddressFree),
    ENTRY(cuMemAddressReserve),
    ENTRY(cuMemAlloc),
    ENTRY(cuMemCreate),
    ENTRY(cuMemFree),
    ENTRY(cuMemGetAddressRange),
    ENTRY(cuMemGetAllocationGranularity),
    ENTRY(cuMemGetInfo),
    ENTRY(cuMemMap),
    ENTRY(cuMemRelease),
    ENTRY(cuMemSetAccess),
    ENTRY(cuMemUnmap),
    ENTRY(cuMemsetD32Async),
    ENTRY(cuStreamWriteValue32),
};
#undef ENTRY

// A function nobody wrote out: its stub, which says that it is not supported.
void* find_stub(const char* name) {
    Dl_info library;
    if (dladdr(&launches, &library) == 0) {
        return nullptr;
    }
    void* handle = dlopen(library.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    void* function = handle == nullptr ? nullptr : dlsym(handle, name);
    if (handle != nullptr) {
        dlclose(handle);
    }
    return function;
}

void* find_entry_point(const std::string& name) {
    for (const EntryPoint& each : ENTRY_POINTS) {
        if (name == each.name) {
            return each.function;
        }
    }
    return find_stub(name.c_str());
}

CUresult launch() {
    CUdevice device = 0;
    CUresult status = current_device(device);
    if (status == CUDA_SUCCESS) {
        status = check_alive(device);
    }
    if (status == CUDA_SUCCESS) {
        ++launches;
    }
    return status;
}

}  // namespace

}  // namespace gpuward::simulator

using namespace gpuward::simulator;

extern "C" {

// Kernels do nothing but count: their results are whatever the memory held.
CUresult cuLaunchKernel(CUfunction, unsigned int, unsigned int, unsigned int, unsigned int,
                        unsigned int, unsigned int, unsigned int, CUstream, void**, void**) {
    return launch();
}

// Kernels launched by this process; for tests.
unsigned long long gpuward_simulator_kernel_launches() { return launches; }

CUresult cuGetErrorString(CUresult error, const char** text) {
    const ErrorText* found = find_error_text(error);
    *text = found == nullptr ? nullptr : found->text;
    return found == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char** name) {
    const ErrorText* found = find_error_text(error);
    *name = found == nullptr ? nullptr : found->driver_name;
    return found == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult cuGetProcAddress(const char* name, void** function, int, cuuint64_t,
                          CUdriverProcAddressQueryResult* result) {
    *function = find_entry_point(name);
    if (result != nullptr) {
        *result = *function != nullptr ? CU_GET_PROC_ADDRESS_SUCCESS
                                       : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    }
    return *function != nullptr ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

// torch registers for the driver's log when it starts; there is never a line.
CUresult cuLogsRegisterCallback(CUlogsCallback, void*, CUlogsCallbackHandle* handle) {
    static char callback;
    if (handle != nullptr) {
        *handle = reinterpret_cast<CUlogsCallbackHandle>(&callback);
    }
    return CUDA_SUCCESS;
}

CUresult cuLogsUnregisterCallback(CUlogsCallbackHandle) { return CUDA_SUCCESS; }
}
