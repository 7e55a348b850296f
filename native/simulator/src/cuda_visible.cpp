#include "cuda_visible.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <optional>

namespace gpuward::simulator {

namespace {

std::optional<std::size_t> find_gpu(const State& state, std::string_view entry) {
    if (entry.starts_with("GPU-")) {
        for (std::size_t index = 0; index < state.gpu_count; ++index) {
            if (std::string_view(state.gpus[index].uuid).starts_with(entry)) {
                return index;
            }
        }
        return {};
    }
    std::size_t index = 0;
    const auto [end, error] = std::from_chars(entry.data(), entry.data() + entry.size(), index);
    const bool is_number = error == std::errc{} && end == entry.data() + entry.size();
    return is_number && index < state.gpu_count ? std::optional(index) : std::nullopt;
}

std::string_view trimmed(std::string_view text) {
    const std::size_t first = text.find_first_not_of(' ');
    return first == text.npos ? "" : text.substr(first, text.find_last_not_of(' ') - first + 1);
}

}  // namespace

std::vector<std::size_t> visible_gpus(const State& state, std::string_view list) {
    std::vector<std::size_t> visible;
    while (!list.empty()) {
        const std::size_t comma = std::min(list.find(','), list.size());
        const std::optional<std::size_t> index = find_gpu(state, trimmed(list.substr(0, comma)));
        if (!index) {
            break;
        }
        if (std::ranges::find(visible, *index) != visible.end()) {
            return {};
        }
        visible.push_back(*index);
        list.remove_prefix(std::min(comma + 1, list.size()));
    }
    return visible;
}

std::vector<std::size_t> all_gpus(const State& state) {
    std::vector<std::size_t> all(state.gpu_count);
    std::iota(all.begin(), all.end(), 0);
    return all;
}

}  // namespace gpuward::simulator
