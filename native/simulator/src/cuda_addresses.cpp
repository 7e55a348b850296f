#include "cuda_addresses.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <iterator>

namespace gpuward::simulator {

namespace {

// Device memory has addresses of its own, far from the heap and from mapped files.  They rise and
// none is handed out twice before all were, so the same program gets the same addresses each time
// and torch, which prefers low ones, decides the same.
constexpr std::uintptr_t FIRST_ADDRESS = 0x2000'0000'0000;
constexpr std::uintptr_t LAST_ADDRESS = 0x4000'0000'0000;

std::uintptr_t next_addresses(std::size_t size) {
    static std::atomic<std::uintptr_t> next{FIRST_ADDRESS};
    std::uintptr_t start = next.load();
    std::uintptr_t chosen = 0;
    do {
        chosen = size <= LAST_ADDRESS - start ? start : FIRST_ADDRESS;
    } while (!next.compare_exchange_weak(start, chosen + size));
    return chosen;
}

}  // namespace

void AddressMap::add(const Range& range) {
    const std::lock_guard lock(mutex_);
    ranges_.insert_or_assign(range.start, range);
}

std::optional<Range> AddressMap::find(const void* address) const {
    const auto* wanted = static_cast<const std::byte*>(address);
    const std::lock_guard lock(mutex_);
    auto after = ranges_.upper_bound(wanted);
    if (after == ranges_.begin()) {
        return {};
    }
    const Range& range = std::prev(after)->second;
    return wanted < range.start + range.size ? std::optional(range) : std::nullopt;
}

std::optional<Range> AddressMap::remove(const void* start, RangeKind kind) {
    const std::lock_guard lock(mutex_);
    const auto found = ranges_.find(static_cast<const std::byte*>(start));
    if (found == ranges_.end() || found->second.kind != kind) {
        return {};
    }
    const Range range = found->second;
    ranges_.erase(found);
    return range;
}

// Never destroyed: torch frees memory from its own exit handlers.
AddressMap& addresses() {
    static auto* map = new AddressMap;
    return *map;
}

std::byte* map_device_pages(std::size_t size, bool is_accessible) {
    const int protection = is_accessible ? PROT_READ | PROT_WRITE : PROT_NONE;
    constexpr int FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    constexpr int TRIES = 64;  // the second time round, older memory is in the way
    for (int attempt = 0; attempt < TRIES; ++attempt) {
        const std::uintptr_t start = next_addresses(size);
        void* mapped = mmap(reinterpret_cast<void*>(start), size, protection, FLAGS, -1, 0);
        if (mapped != MAP_FAILED) {
            return static_cast<std::byte*>(mapped);
        }
    }
    return nullptr;
}

void unmap_device_pages(std::byte* start, std::size_t size) { munmap(start, size); }

void discard_contents(std::byte* start, std::size_t size) { madvise(start, size, MADV_DONTNEED); }

}  // namespace gpuward::simulator
