#include "process_rows.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <optional>

namespace gpuward::simulator {

namespace {

// Field 22 of /proc/PID/stat; nothing for a process that is gone or a zombie.
std::optional<std::uint64_t> start_ticks(std::uint32_t pid) {
    char path[32];
    std::snprintf(path, sizeof path, "/proc/%u/stat", pid);
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        return {};
    }
    char text[1024];
    const ssize_t length = read(descriptor, text, sizeof text - 1);
    close(descriptor);
    text[std::max<ssize_t>(length, 0)] = '\0';
    // The name in parentheses may itself hold spaces and parentheses.
    const char* rest = std::strrchr(text, ')');
    char process_state = 'Z';
    unsigned long long ticks = 0;
    if (rest == nullptr ||
        std::sscanf(
            rest + 1,
            " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
            &process_state, &ticks) != 2 ||
        process_state == 'Z' || process_state == 'X') {
        return {};
    }
    return ticks;
}

Process* find_row(Gpu& gpu, std::uint32_t pid, std::uint64_t ticks) {
    for (Process& row : gpu.processes) {
        if (row.pid == pid && row.start_ticks == ticks) {
            return &row;
        }
    }
    return nullptr;
}

Process* claim_row(Gpu& gpu, std::uint32_t pid, std::uint64_t ticks) {
    if (Process* row = find_row(gpu, pid, ticks)) {
        return row;
    }
    for (Process& row : gpu.processes) {
        if (!is_alive(row)) {
            store(row.pid, 0u);
            row = Process{};
            row.start_ticks = ticks;
            store(row.pid, pid);  // last: a reader that sees the pid sees its row
            return &row;
        }
    }
    return nullptr;
}

}  // namespace

bool is_alive(const Process& row) {
    const std::uint32_t pid = load(row.pid);
    return pid != 0 && start_ticks(pid) == load(row.start_ticks);
}

std::uint64_t used_bytes(const Gpu& gpu) {
    std::uint64_t used = load(gpu.memory_driver_bytes);
    for (const Process& row : gpu.processes) {
        if (is_alive(row)) {
            used += load(row.memory_bytes);
        }
    }
    return used;
}

std::uint64_t used_bytes(const Gpu& gpu, std::uint32_t mig_device) {
    std::uint64_t used = 0;
    for (const Process& row : gpu.processes) {
        if (load(row.mig_device) == mig_device && is_alive(row)) {
            used += load(row.memory_bytes);
        }
    }
    return used;
}

std::uint64_t free_bytes(const Gpu& gpu) {
    const std::uint64_t taken = load(gpu.memory_reserved_bytes) + used_bytes(gpu);
    const std::uint64_t total = load(gpu.memory_total_bytes);
    return total > taken ? total - taken : 0;
}

bool take(const StateFile& file, std::size_t gpu_index, std::uint64_t size) {
    Gpu& gpu = file.state->gpus[gpu_index];
    const auto pid = static_cast<std::uint32_t>(getpid());
    const std::optional<std::uint64_t> ticks = start_ticks(pid);
    const StateLock lock(file, LOCK_GPU + static_cast<std::int64_t>(gpu_index));
    if (!ticks || size > free_bytes(gpu)) {
        return false;
    }
    Process* row = claim_row(gpu, pid, *ticks);
    if (row == nullptr) {
        return false;
    }
    store(row->memory_bytes, row->memory_bytes + size);
    return true;
}

void give_back(const StateFile& file, std::size_t gpu_index, std::uint64_t size) {
    Gpu& gpu = file.state->gpus[gpu_index];
    const auto pid = static_cast<std::uint32_t>(getpid());
    const std::uint64_t ticks = start_ticks(pid).value_or(0);
    const StateLock lock(file, LOCK_GPU + static_cast<std::int64_t>(gpu_index));
    if (Process* row = find_row(gpu, pid, ticks)) {
        store(row->memory_bytes, row->memory_bytes - std::min(size, row->memory_bytes));
    }
}

void forget(const StateFile& file) {
    const auto pid = static_cast<std::uint32_t>(getpid());
    for (std::size_t gpu_index = 0; gpu_index < file.state->gpu_count; ++gpu_index) {
        const StateLock lock(file, LOCK_GPU + static_cast<std::int64_t>(gpu_index));
        for (Process& row : file.state->gpus[gpu_index].processes) {
            if (row.pid == pid) {
                store(row.pid, 0u);
                store(row.memory_bytes, std::uint64_t{0});
            }
        }
    }
}

}  // namespace gpuward::simulator
