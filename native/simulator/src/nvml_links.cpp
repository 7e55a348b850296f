// NVML: PCIe traffic, NVLink, topology, fabric.
#include <cstdio>
#include <ctime>

#include "nvml_session.h"

using namespace gpuward::simulator;

namespace {

constexpr long PCIE_SAMPLE_NANOSECONDS = 20'000'000;  // real drivers measure for 20 ms

// The PCI bus of the first NVSwitch of a simulated HGX board; GPUs lie elsewhere.
constexpr unsigned int NVSWITCH_FIRST_BUS = 0x83;
constexpr unsigned int NVSWITCH_COUNT = 4;
constexpr unsigned int NVSWITCH_DEVICE_ID = 0x22A310DE;

template <typename Fill, typename... Outputs>
nvmlReturn_t answer_link(nvmlDevice_t device, unsigned int link, Fill fill, Outputs*... outputs) {
    return answer(
        device, CALLS_LINK,
        [=](const Gpu& gpu) {
            if (!has(gpu, HAS_NVLINK)) {
                return NVML_ERROR_NOT_SUPPORTED;
            }
            return link < load(gpu.nvlink_count) ? fill(gpu) : NVML_ERROR_INVALID_ARGUMENT;
        },
        outputs...);
}

bool is_active(const Gpu& gpu, unsigned int link) {
    return (load(gpu.nvlink_active_mask) >> link & 1) != 0;
}

nvmlReturn_t remote_pci_info(nvmlDevice_t device, unsigned int link, nvmlPciInfo_t* pci) {
    return answer_link(
        device, link,
        [=](const Gpu&) {
            const unsigned int bus = NVSWITCH_FIRST_BUS + link % NVSWITCH_COUNT;
            *pci = {};
            pci->bus = bus;
            pci->pciDeviceId = NVSWITCH_DEVICE_ID;
            std::snprintf(pci->busId, sizeof pci->busId, "00000000:%02X:00.0", bus & 0xFF);
            std::snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "0000:%02X:00.0", bus & 0xFF);
            return NVML_SUCCESS;
        },
        pci);
}

// Both structs begin alike; version 3 adds a summary.
template <typename Info>
nvmlReturn_t fill_fabric(const Gpu& gpu, Info* info) {
    if (!has(gpu, HAS_FABRIC)) {
        return NVML_ERROR_NOT_SUPPORTED;
    }
    for (unsigned char& byte : info->clusterUuid) {
        byte = 0;
    }
    info->status = NVML_SUCCESS;
    info->cliqueId = 0;
    info->state = static_cast<nvmlGpuFabricState_t>(load(gpu.fabric_state));
    return NVML_SUCCESS;
}

}  // namespace

nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, nvmlPcieUtilCounter_t counter,
                                         unsigned int* kilobytes_per_second) {
    return answer(
        device, CALLS_LINK,
        [=](const Gpu& gpu) {
            if (counter >= NVML_PCIE_UTIL_COUNT) {
                return NVML_ERROR_INVALID_ARGUMENT;
            }
            const timespec sample{0, PCIE_SAMPLE_NANOSECONDS};
            nanosleep(&sample, nullptr);
            *kilobytes_per_second = counter == NVML_PCIE_UTIL_TX_BYTES
                                        ? load(gpu.pcie_transmit_kilobytes_per_second)
                                        : load(gpu.pcie_receive_kilobytes_per_second);
            return NVML_SUCCESS;
        },
        kilobytes_per_second);
}

nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned int link,
                                      nvmlEnableState_t* state) {
    return answer_link(
        device, link,
        [=](const Gpu& gpu) {
            *state = is_active(gpu, link) ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
            return NVML_SUCCESS;
        },
        state);
}

nvmlReturn_t nvmlDeviceGetNvLinkVersion(nvmlDevice_t device, unsigned int link,
                                        unsigned int* version) {
    return answer_link(
        device, link,
        [=](const Gpu& gpu) {
            *version = load(gpu.nvlink_version);
            return NVML_SUCCESS;
        },
        version);
}

// A GPU's totals are shown on its first link.
nvmlReturn_t nvmlDeviceGetNvLinkErrorCounter(nvmlDevice_t device, unsigned int link,
                                             nvmlNvLinkErrorCounter_t counter,
                                             unsigned long long* count) {
    return answer_link(
        device, link,
        [=](const Gpu& gpu) {
            if (counter >= NVML_NVLINK_ERROR_COUNT) {
                return NVML_ERROR_INVALID_ARGUMENT;
            }
            const unsigned long long totals[NVML_NVLINK_ERROR_COUNT] = {
                load(gpu.nvlink_replay_errors), load(gpu.nvlink_recovery_errors),
                load(gpu.nvlink_crc_errors)};
            *count = link == 0 ? totals[counter] : 0;
            return NVML_SUCCESS;
        },
        count);
}

nvmlReturn_t nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t device, unsigned int link,
                                                 nvmlIntNvLinkDeviceType_t* type) {
    return answer_link(
        device, link,
        [=](const Gpu&) {
            *type = NVML_NVLINK_DEVICE_TYPE_SWITCH;
            return NVML_SUCCESS;
        },
        type);
}

nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo(nvmlDevice_t device, unsigned int link,
                                              nvmlPciInfo_t* pci) {
    return remote_pci_info(device, link, pci);
}

nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned int link,
                                                 nvmlPciInfo_t* pci) {
    return remote_pci_info(device, link, pci);
}

nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t first, nvmlDevice_t second,
                                                 nvmlGpuTopologyLevel_t* level) {
    return answer(
        first, CALLS_LINK,
        [=](const Gpu& gpu) {
            const Gpu* other = nullptr;
            if (const nvmlReturn_t status = enter(second, CALLS_LINK, other);
                status != NVML_SUCCESS) {
                return status;
            }
            *level = gpu.numa_node == other->numa_node ? NVML_TOPOLOGY_NODE : NVML_TOPOLOGY_SYSTEM;
            return NVML_SUCCESS;
        },
        level);
}

nvmlReturn_t nvmlDeviceGetP2PStatus(nvmlDevice_t first, nvmlDevice_t second,
                                    nvmlGpuP2PCapsIndex_t capability, nvmlGpuP2PStatus_t* status) {
    return answer(
        first, CALLS_LINK,
        [=](const Gpu& gpu) {
            const Gpu* other = nullptr;
            if (const nvmlReturn_t result = enter(second, CALLS_LINK, other);
                result != NVML_SUCCESS) {
                return result;
            }
            if (capability >= NVML_P2P_CAPS_INDEX_UNKNOWN) {
                return NVML_ERROR_INVALID_ARGUMENT;
            }
            const bool linked = has(gpu, HAS_NVLINK) && has(*other, HAS_NVLINK);
            *status = linked ? NVML_P2P_STATUS_OK : NVML_P2P_STATUS_NOT_SUPPORTED;
            return NVML_SUCCESS;
        },
        status);
}

nvmlReturn_t nvmlDeviceOnSameBoard(nvmlDevice_t first, nvmlDevice_t second, int* on_same_board) {
    return answer(
        first, CALLS_LINK,
        [=](const Gpu&) {
            const Gpu* other = nullptr;
            const nvmlReturn_t status = enter(second, CALLS_LINK, other);
            *on_same_board = first == second ? 1 : 0;
            return status;
        },
        on_same_board);
}

nvmlReturn_t nvmlDeviceGetGpuFabricInfo(nvmlDevice_t device, nvmlGpuFabricInfo_t* info) {
    return answer(device, CALLS_LINK, [=](const Gpu& gpu) { return fill_fabric(gpu, info); }, info);
}

nvmlReturn_t nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t device, nvmlGpuFabricInfoV_t* info) {
    return answer(
        device, CALLS_LINK,
        [=](const Gpu& gpu) {
            if (info->version == nvmlGpuFabricInfo_v2) {
                auto* older = reinterpret_cast<nvmlGpuFabricInfo_v2_t*>(info);
                older->healthMask = 0;
                return fill_fabric(gpu, older);
            }
            if (info->version != nvmlGpuFabricInfo_v3) {
                return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
            }
            info->healthMask = 0;
            info->healthSummary = load(gpu.fabric_unhealthy) != 0
                                      ? NVML_GPU_FABRIC_HEALTH_SUMMARY_UNHEALTHY
                                      : NVML_GPU_FABRIC_HEALTH_SUMMARY_HEALTHY;
            return fill_fabric(gpu, info);
        },
        info);
}
