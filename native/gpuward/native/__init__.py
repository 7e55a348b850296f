"""Compiled helpers of gpuward, reached through ctypes, and the CUDA sources of its probes."""
