// The probes' kernels as a shared library for the processor; its path is the test's business.
#include "cuda_on_host.h"
//
#include "empty.cu"
#include "product.cu"
#include "spin_gap.cu"

extern "C" {

void empty() {
    launch(1, 1, 1, [] { gpuward_empty(); });
}

void spin_gap(unsigned long long* cycles, unsigned long long* times, float* value, int looks,
              int chain) {
    launch(1, 1, 1, [&] { gpuward_spin_gap(cycles, times, value, looks, chain); });
}

void product(const unsigned* a, const unsigned* b, float* c, int side) {
    launch(side / 64, side / 64, 128, [&] { gpuward_product(a, b, c, side); });
}
}
