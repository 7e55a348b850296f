// CUDA_VISIBLE_DEVICES, as CUDA reads it.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "state.h"

namespace gpuward::simulator {

// The index of each visible GPU, in device order.  `list`: GPU indices or prefixes of GPU UUIDs,
// comma separated; the first that names no GPU ends the list, and a GPU named twice empties it.
std::vector<std::size_t> visible_gpus(const State& state, std::string_view list);

// All GPUs, as without the variable.
std::vector<std::size_t> all_gpus(const State& state);

}  // namespace gpuward::simulator
