"""``python -m gpuward.simulator.demo`` is ``gpuward demo``."""

from gpuward.simulator.demo.command import demo

demo()
