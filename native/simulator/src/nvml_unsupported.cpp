// What every NVML function answers that the simulator does not know: the build generates a weak
// definition for each name in the vendor's header, and a real one replaces it.
#include "nvml_session.h"

extern "C" nvmlReturn_t gpuward_unsupported() {
    const nvmlReturn_t status = gpuward::simulator::session_status();
    return status == NVML_SUCCESS ? NVML_ERROR_NOT_SUPPORTED : status;
}
