#include "stall.h"

#include <ctime>

#include "state_file.h"

namespace gpuward::simulator {

namespace {

constexpr std::uint64_t POLL_MICROSECONDS = 2000;

void sleep_microseconds(std::uint64_t microseconds) {
    timespec left{static_cast<time_t>(microseconds / 1'000'000),
                  static_cast<long>(microseconds % 1'000'000 * 1000)};
    while (nanosleep(&left, &left) != 0) {
    }
}

template <typename Part>
void delay(const Part& part, std::uint64_t group) {
    if ((load(part.delay_groups) & group) != 0) {
        sleep_microseconds(load(part.delay_microseconds));
    }
}

bool hangs(const State& state, const Gpu* gpu, std::uint64_t group) {
    const std::uint64_t groups = load(state.hang_groups) | (gpu ? load(gpu->hang_groups) : 0);
    return (groups & group) != 0 && load(state.closed) == 0;
}

}  // namespace

void stall(const State& state, const Gpu* gpu, std::uint64_t group) {
    delay(state, group);
    if (gpu != nullptr) {
        delay(*gpu, group);
    }
    while (hangs(state, gpu, group)) {
        sleep_microseconds(POLL_MICROSECONDS);
    }
}

}  // namespace gpuward::simulator
