// The state of the simulated driver: one mapped file that everything simulated reads and writes.
//
// libnvidia-ml.so.1 reads it, the simulated CUDA runtime takes device memory in it, and the
// scenario player changes it over time.  gpuward/simulator/state.py mirrors this layout with ctypes
// and a test compares both, field by field.  Units are NVML's own.
//
// Who may write what:
//  * scalars of a Gpu and of the header: the player; one aligned store each, so no lock.
//  * process rows and the event ring: any process, holding the open-file-description lock (fcntl
//    F_OFD_SETLKW) on byte LOCK_GPU + index, or LOCK_EVENTS, of the state file.  The kernel drops
//    the lock of a killed process, so nothing can stay locked.
//  * readers take no lock.  Used memory is no counter but the sum of the rows whose process is
//  alive
//    (same pid, same start time, no zombie): kill -9 gives memory back, as a real driver does.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gpuward::simulator {

inline constexpr std::uint64_t STATE_MAGIC = 0x314d495357555047;  // "GPUWSIM1", little endian
inline constexpr std::uint32_t STATE_VERSION = 2;
inline constexpr const char* STATE_VARIABLE = "GPUWARD_SIM_STATE";  // environment: path of the file

inline constexpr std::size_t MAX_GPUS = 16;
inline constexpr std::size_t MAX_PROCESSES = 64;
inline constexpr std::size_t MAX_EVENTS = 256;
inline constexpr std::size_t MAX_MIG_DEVICES = 7;

// Offsets of lock bytes in the state file; no data lives "in" them.
inline constexpr std::int64_t LOCK_GPU = 0;
inline constexpr std::int64_t LOCK_EVENTS = MAX_GPUS;

// What a Gpu has at all; without the bit the driver answers "not supported".
enum Capability : std::uint64_t {
    HAS_ECC = 1u << 0,
    HAS_ROW_REMAPPING = 1u << 1,
    HAS_MEMORY_TEMPERATURE = 1u << 2,
    HAS_NVLINK = 1u << 3,
    HAS_MIG = 1u << 4,
    HAS_THERMAL_MARGIN = 1u << 5,
    HAS_FABRIC = 1u << 6,
    HAS_GPM = 1u << 7,
    HAS_SRAM_STATUS = 1u << 8,
    HAS_VIOLATION_STATUS = 1u << 9,
    HAS_PAGE_RETIREMENT = 1u << 10,
    IS_CONFIDENTIAL = 1u << 11,      // works in confidential mode
    RESTRICTS_PROFILING = 1u << 12,  // GPM is for administrators only
};

// Calls that hang or are slow together: a bit each in hang_groups and delay_groups.
enum CallGroup : std::uint64_t {
    CALLS_SYSTEM = 1u << 0,  // initialisation, versions, count, handles
    CALLS_IDENTITY = 1u << 1,
    CALLS_MEMORY = 1u << 2,
    CALLS_UTILIZATION = 1u << 3,
    CALLS_CLOCK = 1u << 4,
    CALLS_POWER = 1u << 5,
    CALLS_TEMPERATURE = 1u << 6,
    CALLS_ECC = 1u << 7,
    CALLS_LINK = 1u << 8,  // PCIe and NVLink
    CALLS_PROCESS = 1u << 9,
    CALLS_FIELD = 1u << 10,
    CALLS_EVENT = 1u << 11,
    CALLS_CUDA = 1u << 12,  // the simulated CUDA runtime
    CALLS_GPM = 1u << 13,
};

// kind: 0 compute, 1 graphics, 2 MPS.  start_ticks: field 22 of /proc/PID/stat.  pid 0: free row.
// mig_device: 1 for the GPU's first MIG device and so on, 0 for the whole GPU.
#define GPUWARD_PROCESS_FIELDS(FIELD)     \
    FIELD(std::uint32_t, pid)             \
    FIELD(std::uint32_t, kind)            \
    FIELD(std::uint64_t, start_ticks)     \
    FIELD(std::uint64_t, memory_bytes)    \
    FIELD(std::uint32_t, sm_percent)      \
    FIELD(std::uint32_t, memory_percent)  \
    FIELD(std::uint32_t, encoder_percent) \
    FIELD(std::uint32_t, decoder_percent) \
    FIELD(std::uint32_t, mig_device)

// sequence counts from 1 and is written last; kind is NVML's nvmlEventType bit.
#define GPUWARD_EVENT_FIELDS(FIELD) \
    FIELD(std::uint64_t, sequence)  \
    FIELD(std::uint64_t, kind)      \
    FIELD(std::uint64_t, data)      \
    FIELD(std::uint64_t, gpu_index)

// *_permille: what GPM measures, a share of 1000.
#define GPUWARD_MIG_FIELDS(FIELD, TEXT)             \
    FIELD(std::uint64_t, memory_total_bytes)        \
    FIELD(std::uint64_t, memory_reserved_bytes)     \
    FIELD(std::uint32_t, gpu_instance)              \
    FIELD(std::uint32_t, compute_instance)          \
    FIELD(std::uint32_t, slice_count)               \
    FIELD(std::uint32_t, multiprocessor_count)      \
    FIELD(std::uint32_t, gpm_sm_active_permille)    \
    FIELD(std::uint32_t, gpm_sm_occupancy_permille) \
    FIELD(std::uint32_t, gpm_tensor_permille)       \
    FIELD(std::uint32_t, gpm_dram_permille)         \
    TEXT(name, 96)                                  \
    TEXT(uuid, 80)

// memory_driver_bytes: used by no process.  Empty serial or board_part_number: not supported.
// remapped_rows_*: with HAS_PAGE_RETIREMENT of pages that are retired.
// ecc_*: DRAM and SRAM apart; the total is their sum.  *_nanoseconds: time under that reason.
#define GPUWARD_GPU_FIELDS(FIELD, TEXT)                        \
    FIELD(std::uint64_t, hang_groups)                          \
    FIELD(std::uint64_t, delay_groups)                         \
    FIELD(std::uint64_t, delay_microseconds)                   \
    FIELD(std::uint64_t, capabilities)                         \
    FIELD(std::uint64_t, memory_total_bytes)                   \
    FIELD(std::uint64_t, memory_reserved_bytes)                \
    FIELD(std::uint64_t, memory_driver_bytes)                  \
    FIELD(std::uint64_t, bar1_total_bytes)                     \
    FIELD(std::uint64_t, bar1_used_bytes)                      \
    FIELD(std::uint64_t, energy_millijoules)                   \
    FIELD(std::uint64_t, clocks_event_reasons)                 \
    FIELD(std::uint64_t, clocks_event_reasons_supported)       \
    FIELD(std::uint64_t, sw_power_cap_nanoseconds)             \
    FIELD(std::uint64_t, sync_boost_nanoseconds)               \
    FIELD(std::uint64_t, sw_thermal_slowdown_nanoseconds)      \
    FIELD(std::uint64_t, hw_thermal_slowdown_nanoseconds)      \
    FIELD(std::uint64_t, hw_power_brake_nanoseconds)           \
    FIELD(std::uint64_t, ecc_volatile_corrected_dram)          \
    FIELD(std::uint64_t, ecc_volatile_corrected_sram)          \
    FIELD(std::uint64_t, ecc_volatile_uncorrected_dram)        \
    FIELD(std::uint64_t, ecc_volatile_uncorrected_sram)        \
    FIELD(std::uint64_t, ecc_aggregate_corrected_dram)         \
    FIELD(std::uint64_t, ecc_aggregate_corrected_sram)         \
    FIELD(std::uint64_t, ecc_aggregate_uncorrected_dram)       \
    FIELD(std::uint64_t, ecc_aggregate_uncorrected_sram)       \
    FIELD(std::uint64_t, nvlink_active_mask)                   \
    FIELD(std::uint64_t, nvlink_crc_errors)                    \
    FIELD(std::uint64_t, nvlink_replay_errors)                 \
    FIELD(std::uint64_t, nvlink_recovery_errors)               \
    FIELD(std::uint64_t, pcie_transmit_bytes)                  \
    FIELD(std::uint64_t, pcie_receive_bytes)                   \
    FIELD(std::uint32_t, lost)                                 \
    FIELD(std::uint32_t, gpu_recovery_action)                  \
    FIELD(std::uint32_t, pci_domain)                           \
    FIELD(std::uint32_t, pci_bus)                              \
    FIELD(std::uint32_t, pci_device)                           \
    FIELD(std::uint32_t, pci_device_id)                        \
    FIELD(std::uint32_t, pci_subsystem_id)                     \
    FIELD(std::uint32_t, pci_class)                            \
    FIELD(std::uint32_t, minor_number)                         \
    FIELD(std::uint32_t, numa_node)                            \
    FIELD(std::uint32_t, brand)                                \
    FIELD(std::uint32_t, architecture)                         \
    FIELD(std::uint32_t, compute_capability_major)             \
    FIELD(std::uint32_t, compute_capability_minor)             \
    FIELD(std::uint32_t, core_count)                           \
    FIELD(std::uint32_t, multiprocessor_count)                 \
    FIELD(std::uint32_t, memory_bus_width_bits)                \
    FIELD(std::uint32_t, utilization_gpu_percent)              \
    FIELD(std::uint32_t, utilization_memory_percent)           \
    FIELD(std::uint32_t, utilization_encoder_percent)          \
    FIELD(std::uint32_t, utilization_decoder_percent)          \
    FIELD(std::uint32_t, temperature_celsius)                  \
    FIELD(std::uint32_t, memory_temperature_celsius)           \
    FIELD(std::uint32_t, temperature_shutdown_celsius)         \
    FIELD(std::uint32_t, temperature_slowdown_celsius)         \
    FIELD(std::uint32_t, temperature_gpu_max_celsius)          \
    FIELD(std::uint32_t, temperature_memory_max_celsius)       \
    FIELD(std::uint32_t, power_draw_milliwatts)                \
    FIELD(std::uint32_t, power_limit_milliwatts)               \
    FIELD(std::uint32_t, power_limit_enforced_milliwatts)      \
    FIELD(std::uint32_t, power_limit_default_milliwatts)       \
    FIELD(std::uint32_t, power_limit_min_milliwatts)           \
    FIELD(std::uint32_t, power_limit_max_milliwatts)           \
    FIELD(std::uint32_t, graphics_clock_megahertz)             \
    FIELD(std::uint32_t, sm_clock_megahertz)                   \
    FIELD(std::uint32_t, memory_clock_megahertz)               \
    FIELD(std::uint32_t, video_clock_megahertz)                \
    FIELD(std::uint32_t, graphics_clock_max_megahertz)         \
    FIELD(std::uint32_t, sm_clock_max_megahertz)               \
    FIELD(std::uint32_t, memory_clock_max_megahertz)           \
    FIELD(std::uint32_t, video_clock_max_megahertz)            \
    FIELD(std::uint32_t, performance_state)                    \
    FIELD(std::uint32_t, fan_count)                            \
    FIELD(std::uint32_t, fan_speed_percent)                    \
    FIELD(std::uint32_t, persistence_mode)                     \
    FIELD(std::uint32_t, compute_mode)                         \
    FIELD(std::uint32_t, display_active)                       \
    FIELD(std::uint32_t, ecc_mode_current)                     \
    FIELD(std::uint32_t, ecc_mode_pending)                     \
    FIELD(std::uint32_t, remapped_rows_corrected)              \
    FIELD(std::uint32_t, remapped_rows_uncorrected)            \
    FIELD(std::uint32_t, remapped_rows_pending)                \
    FIELD(std::uint32_t, remapped_rows_failure)                \
    FIELD(std::uint32_t, remap_banks_max)                      \
    FIELD(std::uint32_t, remap_banks_high)                     \
    FIELD(std::uint32_t, remap_banks_partial)                  \
    FIELD(std::uint32_t, remap_banks_low)                      \
    FIELD(std::uint32_t, remap_banks_none)                     \
    FIELD(std::uint32_t, pcie_link_generation)                 \
    FIELD(std::uint32_t, pcie_link_generation_max)             \
    FIELD(std::uint32_t, pcie_link_width)                      \
    FIELD(std::uint32_t, pcie_link_width_max)                  \
    FIELD(std::uint32_t, pcie_replay_count)                    \
    FIELD(std::uint32_t, pcie_transmit_kilobytes_per_second)   \
    FIELD(std::uint32_t, pcie_receive_kilobytes_per_second)    \
    FIELD(std::uint32_t, nvlink_count)                         \
    FIELD(std::uint32_t, nvlink_version)                       \
    FIELD(std::uint32_t, mig_mode)                             \
    FIELD(std::uint32_t, fabric_state)                         \
    FIELD(std::uint32_t, pcie_correctable_errors)              \
    FIELD(std::uint32_t, pcie_nonfatal_errors)                 \
    FIELD(std::uint32_t, pcie_fatal_errors)                    \
    FIELD(std::uint32_t, pcie_replay_rollovers)                \
    FIELD(std::uint32_t, gpm_sm_active_permille)               \
    FIELD(std::uint32_t, gpm_sm_occupancy_permille)            \
    FIELD(std::uint32_t, gpm_tensor_permille)                  \
    FIELD(std::uint32_t, gpm_dram_permille)                    \
    FIELD(std::uint32_t, nvlink_transmit_mebibytes_per_second) \
    FIELD(std::uint32_t, nvlink_receive_mebibytes_per_second)  \
    FIELD(std::uint32_t, sram_threshold_exceeded)              \
    FIELD(std::uint32_t, memory_unrepairable)                  \
    FIELD(std::uint32_t, channel_repair_pending)               \
    FIELD(std::uint32_t, inforom_corrupt)                      \
    FIELD(std::uint32_t, fabric_unhealthy)                     \
    FIELD(std::uint32_t, mig_device_count)                     \
    TEXT(name, 96)                                             \
    TEXT(uuid, 80)                                             \
    TEXT(serial, 32)                                           \
    TEXT(vbios_version, 32)                                    \
    TEXT(board_part_number, 32)

// driver_version: the kernel module's.  library_version: the user-space library's on disk, which a
// process loads once and keeps; the two differing is NVML's "version mismatch".
// unbind_count, bind_count: how often the driver was to leave its GPUs, and took them again.
// init_error: what initialisation returns, 0 for success.  closed: the simulation is over, so a
// hung call returns.
#define GPUWARD_STATE_FIELDS(FIELD, TEXT)    \
    FIELD(std::uint64_t, magic)              \
    FIELD(std::uint32_t, version)            \
    FIELD(std::uint32_t, size_bytes)         \
    FIELD(std::uint64_t, hang_groups)        \
    FIELD(std::uint64_t, delay_groups)       \
    FIELD(std::uint64_t, delay_microseconds) \
    FIELD(std::uint32_t, closed)             \
    FIELD(std::uint32_t, gpu_count)          \
    FIELD(std::uint32_t, driver_loaded)      \
    FIELD(std::uint32_t, driver_generation)  \
    FIELD(std::uint32_t, init_error)         \
    FIELD(std::uint32_t, cuda_version)       \
    FIELD(std::uint32_t, unbind_count)       \
    FIELD(std::uint32_t, bind_count)         \
    TEXT(driver_version, 80)                 \
    TEXT(library_version, 80)                \
    FIELD(std::uint64_t, event_count)

#define GPUWARD_MEMBER(type, name) type name;
#define GPUWARD_TEXT_MEMBER(name, size) char name[size];

struct Process {
    GPUWARD_PROCESS_FIELDS(GPUWARD_MEMBER)
};

struct Event {
    GPUWARD_EVENT_FIELDS(GPUWARD_MEMBER)
};

struct MigDevice {
    GPUWARD_MIG_FIELDS(GPUWARD_MEMBER, GPUWARD_TEXT_MEMBER)
};

struct Gpu {
    GPUWARD_GPU_FIELDS(GPUWARD_MEMBER, GPUWARD_TEXT_MEMBER)
    MigDevice mig_devices[MAX_MIG_DEVICES];
    Process processes[MAX_PROCESSES];
};

// events[n % MAX_EVENTS] holds the event with sequence n + 1.
struct State {
    GPUWARD_STATE_FIELDS(GPUWARD_MEMBER, GPUWARD_TEXT_MEMBER)
    Event events[MAX_EVENTS];
    Gpu gpus[MAX_GPUS];
};

#undef GPUWARD_MEMBER
#undef GPUWARD_TEXT_MEMBER

}  // namespace gpuward::simulator
