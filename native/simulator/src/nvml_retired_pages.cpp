// NVML: pages of memory that cards before Ampere retire, which replace no rows.
#include <algorithm>

#include "nvml_session.h"

using namespace gpuward::simulator;

namespace {

constexpr unsigned long long PAGE_BYTES = 4096;
// Somewhere in the middle of the memory, an address for each cause.
constexpr unsigned long long FIRST_PAGE[] = {0x1'0000'0000, 0x2'0000'0000};

unsigned int page_count(const Gpu& gpu, nvmlPageRetirementCause_t cause) {
    return cause == NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR
               ? load(gpu.remapped_rows_uncorrected)
               : load(gpu.remapped_rows_corrected);
}

// As NVML does: without room for them all the caller is told how many there are.
nvmlReturn_t list_pages(nvmlDevice_t device, nvmlPageRetirementCause_t cause, unsigned int* count,
                        unsigned long long* addresses, unsigned long long* timestamps) {
    return answer(
        device, CALLS_ECC,
        [=](const Gpu& gpu) {
            if (cause >= NVML_PAGE_RETIREMENT_CAUSE_COUNT) {
                return NVML_ERROR_INVALID_ARGUMENT;
            }
            if (!has(gpu, HAS_PAGE_RETIREMENT)) {
                return NVML_ERROR_NOT_SUPPORTED;
            }
            const unsigned int room = addresses == nullptr ? 0 : *count;
            *count = page_count(gpu, cause);
            for (unsigned int page = 0; page < std::min(room, *count); ++page) {
                addresses[page] = FIRST_PAGE[cause] + page * PAGE_BYTES;
                if (timestamps != nullptr) {
                    timestamps[page] = static_cast<unsigned long long>(now_microseconds());
                }
            }
            return room < *count ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
        },
        count);
}

}  // namespace

nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, nvmlPageRetirementCause_t cause,
                                       unsigned int* count, unsigned long long* addresses) {
    return list_pages(device, cause, count, addresses, nullptr);
}

nvmlReturn_t nvmlDeviceGetRetiredPages_v2(nvmlDevice_t device, nvmlPageRetirementCause_t cause,
                                          unsigned int* count, unsigned long long* addresses,
                                          unsigned long long* timestamps) {
    return list_pages(device, cause, count, addresses, timestamps);
}

nvmlReturn_t nvmlDeviceGetRetiredPagesPendingStatus(nvmlDevice_t device,
                                                    nvmlEnableState_t* is_pending) {
    return answer(
        device, CALLS_ECC,
        [=](const Gpu& gpu) {
            if (!has(gpu, HAS_PAGE_RETIREMENT)) {
                return NVML_ERROR_NOT_SUPPORTED;
            }
            *is_pending =
                load(gpu.remapped_rows_pending) == 0 ? NVML_FEATURE_DISABLED : NVML_FEATURE_ENABLED;
            return NVML_SUCCESS;
        },
        is_pending);
}
