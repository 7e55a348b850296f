// Measure how long this thread is kept from running: the C ABI of libgpuward.so.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct gpuward_spin_gap_result {
    std::uint64_t elapsed_ns;      // From the first look at the clock to the last.
    std::uint64_t reads;           // Looks at the clock.
    std::uint64_t gaps;            // Looks that came threshold_ns or more after the one before.
    std::uint64_t gap_total_ns;    // Sum of those gaps.
    std::uint64_t longest_gap_ns;  // Longest time between two looks, however short.
};

// Looks at the monotonic clock without pause for duration_ns and fills *result.
// Returns 0, or EINVAL when result is null, threshold_ns is 0 or duration_ns above 10 s.
int gpuward_spin_gap(std::uint64_t duration_ns, std::uint64_t threshold_ns,
                     gpuward_spin_gap_result* result) noexcept;

// Version of this ABI; the Python face refuses another.
int gpuward_abi_version() noexcept;

}  // extern "C"
