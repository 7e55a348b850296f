"""Probe how long a small piece of work takes on a device: launch path, driver and contention.

Two twins behind one face: CuPy on a GPU, numpy on the processor, so that everything around a probe
runs and is tested without a GPU.  A burst takes 0.2 ms of a GPU, so one every ten seconds is
0.002 % of its time, far below what a neighbour's tail latency shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuward.agent.probes.figure import Figure

CPU = "cpu"


def run(device: str) -> list[Figure]:
    """Return figures of one burst on ``device``: ``cpu`` or the GPU of this process.

    Raises ``Stalled`` when the device does not finish by the deadline, ``ImportError`` where the
    twin's library is not installed.
    """
    # Imported here: each twin's library is large, and a worker needs one of them.
    if device == CPU:
        from gpuward.agent.probes import latency_cpu

        return latency_cpu.run()
    from gpuward.agent.probes import latency_cuda

    return latency_cuda.run()
