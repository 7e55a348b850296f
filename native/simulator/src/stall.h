// Calls that are slow or hang, as the scenario says.
#pragma once

#include "state.h"

namespace gpuward::simulator {

// Sleep as long as the state says that calls of `group` are delayed, then block for as long as it
// says that they hang.  `gpu` null: a call about no GPU; only the node-wide fields count.
// A real hang is in the kernel and uninterruptible; this one ends when the state says so.
void stall(const State& state, const Gpu* gpu, std::uint64_t group);

}  // namespace gpuward::simulator
