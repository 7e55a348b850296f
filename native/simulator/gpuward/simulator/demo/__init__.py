"""The demo: a small world of real parts, and the story of one incident in it."""

from gpuward.simulator.demo.command import demo

__all__ = ["demo"]
