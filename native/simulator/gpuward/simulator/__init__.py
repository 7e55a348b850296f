"""A simulated NVIDIA driver: for the demo and for tests on machines without a GPU."""
