// What the runtime adds to the driver: errors kept for each thread, and a context made on demand.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

namespace gpuward::simulator {

// Both APIs number their errors alike.  A failure is kept for cudaGetLastError.
cudaError_t report(CUresult status);

// The driver is initialised.
CUresult use_driver();

// The thread has a current context: the one it has, or the first device's primary context.
CUresult use_context();

// Report `call` where the thread has a context, else why it has none.
template <typename Call>
cudaError_t in_context(Call call) {
    const CUresult status = use_context();
    return report(status == CUDA_SUCCESS ? call() : status);
}

template <typename Call>
cudaError_t with_driver(Call call) {
    const CUresult status = use_driver();
    return report(status == CUDA_SUCCESS ? call() : status);
}

}  // namespace gpuward::simulator
