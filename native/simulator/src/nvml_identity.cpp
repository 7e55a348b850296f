// NVML: what a GPU is: PCI address, capability, modes.
#include <cstdio>
#include <cstring>

#include "nvml_session.h"

using namespace gpuward::simulator;

namespace {

constexpr unsigned int PCI_CLASS_SHIFT = 16;  // a class code is base, sub, interface: 8 bits each
constexpr unsigned int PCI_SUBCLASS_SHIFT = 8;

void write_bus_id(const Gpu& gpu, char (&text)[NVML_DEVICE_PCI_BUS_ID_BUFFER_SIZE]) {
    std::snprintf(text, sizeof text, "%08X:%02X:%02X.0", gpu.pci_domain, gpu.pci_bus & 0xFF,
                  gpu.pci_device & 0x1F);
}

nvmlReturn_t pci_info(nvmlDevice_t device, nvmlPciInfo_t* pci) {
    return answer(
        device, CALLS_IDENTITY,
        [=](const Gpu& gpu) {
            *pci = {};
            pci->domain = gpu.pci_domain;
            pci->bus = gpu.pci_bus;
            pci->device = gpu.pci_device;
            pci->pciDeviceId = gpu.pci_device_id;
            pci->pciSubSystemId = gpu.pci_subsystem_id;
            write_bus_id(gpu, pci->busId);
            std::snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:%02X.0",
                          gpu.pci_domain & 0xFFFF, gpu.pci_bus & 0xFF, gpu.pci_device & 0x1F);
            return NVML_SUCCESS;
        },
        pci);
}

// Unversioned and _v2 callers own a struct without the final busId.
nvmlReturn_t pci_info_short(nvmlDevice_t device, nvmlPciInfo_t* pci) {
    nvmlPciInfo_t whole{};
    const nvmlReturn_t status = pci_info(device, pci == nullptr ? nullptr : &whole);
    if (status == NVML_SUCCESS) {
        std::memcpy(pci, &whole, offsetof(nvmlPciInfo_t, busId));
    }
    return status;
}

}  // namespace

nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t* pci) {
    return pci_info_short(device, pci);
}

nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t* pci) {
    return pci_info_short(device, pci);
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t* pci) {
    return pci_info(device, pci);
}

nvmlReturn_t nvmlDeviceGetPciInfoExt(nvmlDevice_t device, nvmlPciInfoExt_t* pci) {
    return answer(
        device, CALLS_IDENTITY,
        [=](const Gpu& gpu) {
            if (pci->version != nvmlPciInfoExt_v1) {
                return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
            }
            pci->domain = gpu.pci_domain;
            pci->bus = gpu.pci_bus;
            pci->device = gpu.pci_device;
            pci->pciDeviceId = gpu.pci_device_id;
            pci->pciSubSystemId = gpu.pci_subsystem_id;
            pci->baseClass = gpu.pci_class >> PCI_CLASS_SHIFT;
            pci->subClass = gpu.pci_class >> PCI_SUBCLASS_SHIFT & 0xFF;
            write_bus_id(gpu, pci->busId);
            return NVML_SUCCESS;
        },
        pci);
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int* index) {
    return answer(
        device, CALLS_IDENTITY,
        [=](const Gpu&) {
            std::size_t gpu_index = 0;
            to_index(device, gpu_index);
            *index = static_cast<unsigned int>(gpu_index);
            return NVML_SUCCESS;
        },
        index);
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int* major, int* minor) {
    return answer(
        device, CALLS_IDENTITY,
        [=](const Gpu& gpu) {
            *major = static_cast<int>(gpu.compute_capability_major);
            *minor = static_cast<int>(gpu.compute_capability_minor);
            return NVML_SUCCESS;
        },
        major, minor);
}

nvmlReturn_t nvmlDeviceGetBoardId(nvmlDevice_t device, unsigned int* board_id) {
    return answer(
        device, CALLS_IDENTITY,
        [=](const Gpu& gpu) {
            *board_id = gpu.pci_bus << 8 | gpu.pci_device;
            return NVML_SUCCESS;
        },
        board_id);
}

nvmlReturn_t nvmlDeviceGetMultiGpuBoard(nvmlDevice_t device, unsigned int* is_multi_gpu) {
    return answer(
        device, CALLS_IDENTITY,
        [=](const Gpu&) {
            *is_multi_gpu = 0;
            return NVML_SUCCESS;
        },
        is_multi_gpu);
}

nvmlReturn_t nvmlDeviceGetBusType(nvmlDevice_t device, nvmlBusType_t* type) {
    return answer(
        device, CALLS_IDENTITY,
        [=](const Gpu&) {
            *type = NVML_BUS_TYPE_PCIE;
            return NVML_SUCCESS;
        },
        type);
}

nvmlReturn_t nvmlDeviceGetVirtualizationMode(nvmlDevice_t device,
                                             nvmlGpuVirtualizationMode_t* mode) {
    return answer(
        device, CALLS_IDENTITY,
        [=](const Gpu&) {
            *mode = NVML_GPU_VIRTUALIZATION_MODE_NONE;
            return NVML_SUCCESS;
        },
        mode);
}

nvmlReturn_t nvmlDeviceGetGspFirmwareMode(nvmlDevice_t device, unsigned int* is_enabled,
                                          unsigned int* default_mode) {
    return answer(
        device, CALLS_IDENTITY,
        [=](const Gpu&) {
            *is_enabled = *default_mode = 1;
            return NVML_SUCCESS;
        },
        is_enabled, default_mode);
}

nvmlReturn_t nvmlDeviceValidateInforom(nvmlDevice_t device) {
    return answer(device, CALLS_IDENTITY, [](const Gpu& gpu) {
        return load(gpu.inforom_corrupt) != 0 ? NVML_ERROR_CORRUPTED_INFOROM : NVML_SUCCESS;
    });
}
