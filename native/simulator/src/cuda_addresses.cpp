#include "cuda_addresses.h"

#include <cstdint>
#include <sys/mman.h>

namespace gpuward::simulator {

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
    void* mapped = mmap(nullptr, size + DEVICE_PAGE_BYTES, protection,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) {
        return nullptr;
    }
    auto* first = static_cast<std::byte*>(mapped);
    const std::size_t misalignment = reinterpret_cast<std::uintptr_t>(first) % DEVICE_PAGE_BYTES;
    const std::size_t before = misalignment == 0 ? 0 : DEVICE_PAGE_BYTES - misalignment;
    if (before > 0) {
        munmap(first, before);
    }
    munmap(first + before + size, DEVICE_PAGE_BYTES - before);
    return first + before;
}

void unmap_device_pages(std::byte* start, std::size_t size) {
    munmap(start, size);
}

void discard_contents(std::byte* start, std::size_t size) {
    madvise(start, size, MADV_DONTNEED);
}

}  // namespace gpuward::simulator
