// Names that programs built for CUDA 12 bind to and the headers of 13 rename.
#include <cuda.h>

#undef cuDeviceGetUuid
#undef cuEventElapsedTime

extern "C" {

CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice device) { return cuDeviceGetUuid_v2(uuid, device); }

CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
    return cuEventElapsedTime_v2(milliseconds, start, end);
}
}
