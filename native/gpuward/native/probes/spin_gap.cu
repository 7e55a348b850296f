// One thread does arithmetic of a known length over and over and looks at two clocks in between:
// the multiprocessor's, which counts its cycles, and the GPU's, which counts nanoseconds.  Cycles
// by time are the clock that work really gets, whatever the driver says; a step that took much
// longer than the others is a moment in which another process had the GPU.
#ifndef GPUWARD_ON_HOST
__device__ inline unsigned long long nanoseconds() {
    unsigned long long now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}

// Nothing before is still under way, and nothing after has begun.
__device__ inline void settle(float& value) { asm volatile("" : "+f"(value)::"memory"); }
#endif

// cycles, times: `looks` values each.  Each step multiplies and adds `chain` times, each time with
// the result of the time before.  value: the last result, so that no compiler leaves them out.
extern "C" __global__ void gpuward_spin_gap(unsigned long long* cycles, unsigned long long* times,
                                            float* value, int looks, int chain) {
    float x = 1.0f;
    for (int look = 0; look < looks; ++look) {
        settle(x);
        cycles[look] = clock64();
        times[look] = nanoseconds();
        for (int step = 0; step < chain; ++step) x = x * 0.5f + 1.0f;
    }
    *value = x;
}
