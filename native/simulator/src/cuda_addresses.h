// Which addresses are device memory, pinned host memory or reserved: CUDA's unified address space.
//
// Device memory is anonymous memory of this process that the kernel backs on first touch, so 80 GB
// cost nothing until somebody writes there.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <optional>

namespace gpuward::simulator {

// The driver hands out device memory in pages of this size.
inline constexpr std::size_t DEVICE_PAGE_BYTES = 2u << 20;

constexpr std::size_t in_device_pages(std::size_t bytes) {
    return (bytes + DEVICE_PAGE_BYTES - 1) / DEVICE_PAGE_BYTES * DEVICE_PAGE_BYTES;
}

enum class RangeKind {
    DEVICE,      // cuMemAlloc
    POOLED,      // cuMemAllocAsync
    HOST,        // cuMemHostAlloc
    REGISTERED,  // cuMemHostRegister
    RESERVED,    // cuMemAddressReserve: device memory where it is mapped
};

struct Range {
    std::byte* start;
    std::size_t size;
    int device;
    RangeKind kind;

    bool is_host() const { return kind == RangeKind::HOST || kind == RangeKind::REGISTERED; }
};

// Thread-safe; ranges never overlap.
class AddressMap {
 public:
    void add(const Range& range);
    std::optional<Range> find(const void* address) const;

    // Remove and return the range of that kind that starts at `start`, if there is one.
    std::optional<Range> remove(const void* start, RangeKind kind);

 private:
    mutable std::mutex mutex_;
    std::map<const std::byte*, Range> ranges_;
};

AddressMap& addresses();

// `size` bytes, a multiple of DEVICE_PAGE_BYTES and aligned to it; null when the process has no
// address space left.  Touching it is an error unless `is_accessible`.
std::byte* map_device_pages(std::size_t size, bool is_accessible);
void unmap_device_pages(std::byte* start, std::size_t size);

// Give the contents back to the kernel: the pages read as zeros until the next write.
void discard_contents(std::byte* start, std::size_t size);

}  // namespace gpuward::simulator
