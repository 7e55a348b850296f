"""The gpuward command."""
