// Product of two square matrices on the tensor cores: a yardstick for one card against itself, not
// the fastest there is.  Half precision in, single precision out.  `m16n8k8` is the one shape that
// every card with CUDA 12 and 13 has alike, from sm_75 on.
#ifndef GPUWARD_ON_HOST
// sum += a * b, on a tile of 16 x 8 by 8 that the 32 threads of a warp hold together; which of them
// holds what: PTX ISA, "Matrix Fragments for mma.m16n8k8".
__device__ inline void multiply_add(float (&sum)[4], const unsigned (&a)[2], unsigned b) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32"
        " {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(b));
}
#endif

constexpr int kWarp = 32;
// A warp makes a tile of 32 x 32, four warps one of 64 x 64.
constexpr int kRows = 2;     // of 16
constexpr int kColumns = 4;  // of 8
constexpr int kTile = 32;

// c = a * transposed b.  Two neighbours of a row are one word of `a` and `b`; `side` is a multiple
// of 64, the grid (side / 64, side / 64), a block 128 threads.
extern "C" __global__ void gpuward_product(const unsigned* a, const unsigned* b, float* c,
                                           int side) {
    const int warp = threadIdx.x / kWarp;
    const int group = threadIdx.x % kWarp / 4;
    const int pair = threadIdx.x % 4;
    const int words = side / 2;
    const int top = (blockIdx.y * 2 + warp / 2) * kTile;
    const int left = (blockIdx.x * 2 + warp % 2) * kTile;
    float sums[kRows][kColumns][4] = {};
    for (int word = pair; word < words; word += 4) {
        unsigned rows[kRows][2];
        for (int tile = 0; tile < kRows; ++tile) {
            const int row = top + tile * 16 + group;
            rows[tile][0] = a[row * words + word];
            rows[tile][1] = a[(row + 8) * words + word];
        }
        for (int column = 0; column < kColumns; ++column) {
            const unsigned two = b[(left + column * 8 + group) * words + word];
            for (int tile = 0; tile < kRows; ++tile) {
                multiply_add(sums[tile][column], rows[tile], two);
            }
        }
    }
    for (int tile = 0; tile < kRows; ++tile) {
        for (int column = 0; column < kColumns; ++column) {
            for (int place = 0; place < 4; ++place) {
                const int row = top + tile * 16 + group + place / 2 * 8;
                c[row * side + left + column * 8 + pair * 2 + place % 2] =
                    sums[tile][column][place];
            }
        }
    }
}
