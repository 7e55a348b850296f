// A thread that does nothing but look at the clock sees every moment in which it did not run: other
// work on its core, a hypervisor taking the core away, interrupts.  In Python the interpreter's own
// pauses would drown that, so this runs without the GIL (ctypes releases it during the call).
#include "spin_gap.h"

#include <algorithm>
#include <cerrno>
#include <ctime>

#define GPUWARD_EXPORT __attribute__((visibility("default")))

namespace {

constexpr std::uint64_t kNanosecondsPerSecond = 1'000'000'000;
constexpr std::uint64_t kLongestDurationNs = 10 * kNanosecondsPerSecond;

std::uint64_t now_ns() noexcept {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * kNanosecondsPerSecond +
           static_cast<std::uint64_t>(now.tv_nsec);
}

gpuward_spin_gap_result spin(std::uint64_t duration_ns, std::uint64_t threshold_ns) noexcept {
    gpuward_spin_gap_result seen{};
    const std::uint64_t started_ns = now_ns();
    std::uint64_t before_ns = started_ns;
    do {
        const std::uint64_t after_ns = now_ns();
        const std::uint64_t gap_ns = after_ns - before_ns;
        seen.longest_gap_ns = std::max(seen.longest_gap_ns, gap_ns);
        if (gap_ns >= threshold_ns) {
            ++seen.gaps;
            seen.gap_total_ns += gap_ns;
        }
        ++seen.reads;
        before_ns = after_ns;
    } while (before_ns - started_ns < duration_ns);
    seen.elapsed_ns = before_ns - started_ns;
    return seen;
}

}  // namespace

extern "C" GPUWARD_EXPORT int gpuward_spin_gap(std::uint64_t duration_ns,
                                               std::uint64_t threshold_ns,
                                               gpuward_spin_gap_result* result) noexcept {
    if (result == nullptr || threshold_ns == 0 || duration_ns > kLongestDurationNs) return EINVAL;
    *result = spin(duration_ns, threshold_ns);
    return 0;
}

extern "C" GPUWARD_EXPORT int gpuward_abi_version() noexcept { return 1; }
