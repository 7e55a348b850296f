// NVML: memory, ECC counters, remapped rows.
#include "nvml_session.h"
#include "process_rows.h"

using namespace gpuward::simulator;

namespace {

struct EccCount {
    unsigned long long dram;
    unsigned long long sram;
};

// Rows: corrected, uncorrected.  Columns: volatile, aggregate.
EccCount ecc_count(const Gpu& gpu, nvmlMemoryErrorType_t error, nvmlEccCounterType_t counter) {
    if (counter == NVML_VOLATILE_ECC) {
        return error == NVML_MEMORY_ERROR_TYPE_CORRECTED
                   ? EccCount{gpu.ecc_volatile_corrected_dram, gpu.ecc_volatile_corrected_sram}
                   : EccCount{gpu.ecc_volatile_uncorrected_dram, gpu.ecc_volatile_uncorrected_sram};
    }
    return error == NVML_MEMORY_ERROR_TYPE_CORRECTED
               ? EccCount{gpu.ecc_aggregate_corrected_dram, gpu.ecc_aggregate_corrected_sram}
               : EccCount{gpu.ecc_aggregate_uncorrected_dram, gpu.ecc_aggregate_uncorrected_sram};
}

template <typename Fill, typename... Outputs>
nvmlReturn_t answer_ecc(nvmlDevice_t device, Fill fill, Outputs*... outputs) {
    return answer(
        device, CALLS_ECC,
        [=](const Gpu& gpu) { return has(gpu, HAS_ECC) ? fill(gpu) : NVML_ERROR_NOT_SUPPORTED; },
        outputs...);
}

struct Sizes {
    unsigned long long total;
    unsigned long long reserved;
    unsigned long long free;
};

// A MIG device has memory of its own.
Sizes sizes(const Gpu& gpu, const MigDevice* mig) {
    if (mig == nullptr) {
        return {load(gpu.memory_total_bytes), load(gpu.memory_reserved_bytes), free_bytes(gpu)};
    }
    const auto number = static_cast<std::uint32_t>(mig - gpu.mig_devices) + 1;
    const std::uint64_t taken = mig->memory_reserved_bytes + used_bytes(gpu, number);
    const std::uint64_t total = mig->memory_total_bytes;
    return {total, mig->memory_reserved_bytes, total > taken ? total - taken : 0};
}

// Not of a GPU that is cut; and a GeForce of Ada answers too, by which it means nothing.
bool counts_rows(const Gpu& gpu) {
    const bool is_geforce =
        load(gpu.brand) == NVML_BRAND_GEFORCE && load(gpu.architecture) == NVML_DEVICE_ARCH_ADA;
    return load(gpu.mig_device_count) == 0 && (has(gpu, HAS_ROW_REMAPPING) || is_geforce);
}

bool valid(nvmlMemoryErrorType_t error, nvmlEccCounterType_t counter) {
    return error < NVML_MEMORY_ERROR_TYPE_COUNT && counter < NVML_ECC_COUNTER_TYPE_COUNT;
}

}  // namespace

// Version 1 has no reserved field: its `used` includes the reserved part.
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t* memory) {
    return answer_part(
        device, CALLS_MEMORY,
        [=](const Gpu& gpu, const MigDevice* mig) {
            const Sizes found = sizes(gpu, mig);
            memory->total = found.total;
            memory->free = found.free;
            memory->used = found.total - found.free;
            return NVML_SUCCESS;
        },
        memory);
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t* memory) {
    return answer_part(
        device, CALLS_MEMORY,
        [=](const Gpu& gpu, const MigDevice* mig) {
            if (memory->version != nvmlMemory_v2) {
                return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
            }
            const Sizes found = sizes(gpu, mig);
            memory->total = found.total;
            memory->reserved = found.reserved;
            memory->free = found.free;
            memory->used = found.total - found.reserved - found.free;
            return NVML_SUCCESS;
        },
        memory);
}

nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t* memory) {
    return answer(
        device, CALLS_MEMORY,
        [=](const Gpu& gpu) {
            memory->bar1Total = load(gpu.bar1_total_bytes);
            memory->bar1Used = load(gpu.bar1_used_bytes);
            memory->bar1Free = memory->bar1Total - memory->bar1Used;
            return NVML_SUCCESS;
        },
        memory);
}

nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, nvmlEnableState_t* current,
                                  nvmlEnableState_t* pending) {
    return answer_ecc(
        device,
        [=](const Gpu& gpu) {
            *current = static_cast<nvmlEnableState_t>(load(gpu.ecc_mode_current));
            *pending = static_cast<nvmlEnableState_t>(load(gpu.ecc_mode_pending));
            return NVML_SUCCESS;
        },
        current, pending);
}

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t error,
                                         nvmlEccCounterType_t counter, unsigned long long* count) {
    return answer_ecc(
        device,
        [=](const Gpu& gpu) {
            if (!valid(error, counter)) {
                return NVML_ERROR_INVALID_ARGUMENT;
            }
            const EccCount parts = ecc_count(gpu, error, counter);
            *count = parts.dram + parts.sram;
            return NVML_SUCCESS;
        },
        count);
}

nvmlReturn_t nvmlDeviceGetDetailedEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t error,
                                            nvmlEccCounterType_t counter,
                                            nvmlEccErrorCounts_t* counts) {
    return answer_ecc(
        device,
        [=](const Gpu& gpu) {
            if (!valid(error, counter)) {
                return NVML_ERROR_INVALID_ARGUMENT;
            }
            const EccCount parts = ecc_count(gpu, error, counter);
            *counts = {};
            counts->l2Cache = parts.sram;
            counts->deviceMemory = parts.dram;
            return NVML_SUCCESS;
        },
        counts);
}

// Real Hopper counts DRAM and SRAM and calls the other locations not supported.
nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, nvmlMemoryErrorType_t error,
                                             nvmlEccCounterType_t counter,
                                             nvmlMemoryLocation_t location,
                                             unsigned long long* count) {
    return answer_ecc(
        device,
        [=](const Gpu& gpu) {
            if (!valid(error, counter) || location >= NVML_MEMORY_LOCATION_COUNT) {
                return NVML_ERROR_INVALID_ARGUMENT;
            }
            if (location != NVML_MEMORY_LOCATION_DRAM && location != NVML_MEMORY_LOCATION_SRAM) {
                return NVML_ERROR_NOT_SUPPORTED;
            }
            const EccCount parts = ecc_count(gpu, error, counter);
            *count = location == NVML_MEMORY_LOCATION_DRAM ? parts.dram : parts.sram;
            return NVML_SUCCESS;
        },
        count);
}

nvmlReturn_t nvmlDeviceGetSramEccErrorStatus(nvmlDevice_t device,
                                             nvmlEccSramErrorStatus_t* status) {
    return answer_ecc(
        device,
        [=](const Gpu& gpu) {
            if (status->version != nvmlEccSramErrorStatus_v1) {
                return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
            }
            if (!has(gpu, HAS_SRAM_STATUS)) {
                return NVML_ERROR_NOT_SUPPORTED;
            }
            *status = {};
            status->version = nvmlEccSramErrorStatus_v1;
            status->aggregateCor = gpu.ecc_aggregate_corrected_sram;
            status->volatileCor = gpu.ecc_volatile_corrected_sram;
            status->aggregateUncSecDed = gpu.ecc_aggregate_uncorrected_sram;
            status->volatileUncSecDed = gpu.ecc_volatile_uncorrected_sram;
            status->aggregateUncBucketL2 = gpu.ecc_aggregate_uncorrected_sram;
            status->bThresholdExceeded = load(gpu.sram_threshold_exceeded);
            return NVML_SUCCESS;
        },
        status);
}

nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned int* corrected,
                                       unsigned int* uncorrected, unsigned int* is_pending,
                                       unsigned int* failure) {
    return answer(
        device, CALLS_ECC,
        [=](const Gpu& gpu) {
            if (!counts_rows(gpu)) {
                return NVML_ERROR_NOT_SUPPORTED;
            }
            *corrected = load(gpu.remapped_rows_corrected);
            *uncorrected = load(gpu.remapped_rows_uncorrected);
            *is_pending = load(gpu.remapped_rows_pending);
            *failure = load(gpu.remapped_rows_failure);
            return NVML_SUCCESS;
        },
        corrected, uncorrected, is_pending, failure);
}

nvmlReturn_t nvmlDeviceGetRowRemapperHistogram(nvmlDevice_t device,
                                               nvmlRowRemapperHistogramValues_t* values) {
    return answer(
        device, CALLS_ECC,
        [=](const Gpu& gpu) {
            if (!has(gpu, HAS_ROW_REMAPPING)) {
                return NVML_ERROR_NOT_SUPPORTED;
            }
            *values = {gpu.remap_banks_max, gpu.remap_banks_high, gpu.remap_banks_partial,
                       gpu.remap_banks_low, gpu.remap_banks_none};
            return NVML_SUCCESS;
        },
        values);
}

// Only from driver 590 on.
nvmlReturn_t nvmlDeviceGetUnrepairableMemoryFlag_v1(nvmlDevice_t device,
                                                    nvmlUnrepairableMemoryStatus_v1_t* status) {
    return answer(
        device, CALLS_ECC,
        [=](const Gpu& gpu) {
            if (!has(gpu, HAS_ROW_REMAPPING) || !driver_is_at_least(590)) {
                return NVML_ERROR_NOT_SUPPORTED;
            }
            status->bUnrepairableMemory = load(gpu.memory_unrepairable);
            return NVML_SUCCESS;
        },
        status);
}

nvmlReturn_t nvmlDeviceGetRepairStatus(nvmlDevice_t device, nvmlRepairStatus_t* status) {
    return answer(
        device, CALLS_ECC,
        [=](const Gpu& gpu) {
            if (status->version != nvmlRepairStatus_v1) {
                return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
            }
            if (!has(gpu, HAS_ROW_REMAPPING)) {
                return NVML_ERROR_NOT_SUPPORTED;
            }
            status->bChannelRepairPending = load(gpu.channel_repair_pending);
            status->bTpcRepairPending = 0;
            return NVML_SUCCESS;
        },
        status);
}
