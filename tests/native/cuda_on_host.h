// Just enough of CUDA to run a probe's kernel on the processor, one thread for each of a block's:
// its arithmetic and its indexes are then the compiler's plain C++, and can be checked without a
// GPU.
#pragma once

#include <barrier>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

#define GPUWARD_ON_HOST 1
#define __global__
#define __device__

struct Place {
    int x = 0, y = 0, z = 0;
};
inline thread_local Place threadIdx, blockIdx;

// A clock of 2 GHz, for whoever counts cycles.
inline unsigned long long nanoseconds() {
    return std::chrono::steady_clock::now().time_since_epoch().count();
}
inline unsigned long long clock64() { return 2 * nanoseconds(); }
inline void settle(float& value) { asm volatile("" : "+x"(value)::"memory"); }

inline float half_to_float(std::uint16_t half) {
    const int exponent = half >> 10 & 31, fraction = half & 1023;
    const float size = exponent ? std::ldexp(1024.0f + fraction, exponent - 25)
                                : std::ldexp(static_cast<float>(fraction), -24);
    return half >> 15 ? -size : size;
}

// What the threads of a warp show one another.
struct Warp {
    std::barrier<> together{32};
    unsigned a[32][2];
    unsigned b[32];
};
inline Warp warps[32];

// PTX ISA, "Matrix Fragments for mma.m16n8k8": element i of a thread's part of A, B and of the sum.
inline void multiply_add(float (&sum)[4], const unsigned (&a)[2], unsigned b) {
    const int lane = threadIdx.x % 32;
    Warp& warp = warps[threadIdx.x / 32];
    warp.a[lane][0] = a[0];
    warp.a[lane][1] = a[1];
    warp.b[lane] = b;
    warp.together.arrive_and_wait();
    const auto element = [](unsigned word, int place) {
        return half_to_float(static_cast<std::uint16_t>(place ? word >> 16 : word));
    };
    for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + (i < 2 ? 0 : 8), column = lane % 4 * 2 + i % 2;
        for (int k = 0; k < 8; ++k) {
            sum[i] += element(warp.a[row % 8 * 4 + k / 2][row / 8], k % 2) *
                      element(warp.b[column * 4 + k / 2], k % 2);
        }
    }
    warp.together.arrive_and_wait();
}

// Run `kernel` on a grid, block after block.
template <typename Kernel>
void launch(int grid_x, int grid_y, int block, const Kernel& kernel) {
    for (int y = 0; y < grid_y; ++y) {
        for (int x = 0; x < grid_x; ++x) {
            std::vector<std::jthread> threads;
            for (int thread = 0; thread < block; ++thread) {
                threads.emplace_back([&, thread] {
                    threadIdx = {thread, 0, 0};
                    blockIdx = {x, y, 0};
                    kernel();
                });
            }
        }
    }
}
