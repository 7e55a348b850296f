"""Every probe by its name, with what runs it on a GPU and on the processor.

Two twins behind one name, CuPy on a GPU and numpy on the processor, so that everything around a
probe runs and is tested without a GPU.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from gpuward.agent.probes.figure import Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuward.agent.probes.figure import Figure, Meter

CPU = "cpu"
_HERE = "gpuward.agent.probes"
# Module and function, imported when asked for: each twin's library is large, a worker needs one.
ON_GPU = {
    "latency": ("latency_cuda", "run"),
    "host_copy": ("copy_cuda", "host"),
    "device_copy": ("copy_cuda", "device"),
    "product": ("product_cuda", "run"),
    "allocation": ("allocation_cuda", "run"),
}
ON_CPU = {"latency": ("latency_cpu", "run")}


def run(probe: str, device: str, meter: Meter) -> list[Figure]:
    """Return figures of one burst of ``probe`` on ``device``: ``cpu`` or this process's GPU.

    Raises ``KeyError`` for a name that is none, ``Unsupported`` and ``ImportError`` where it cannot
    run, ``Stalled`` when the device does not finish by the deadline.
    """
    module, function = ON_GPU[probe]
    if device == CPU:
        if probe not in ON_CPU:
            raise Unsupported(f"the processor has no such probe, it has: {', '.join(ON_CPU)}")
        module, function = ON_CPU[probe]
    measure: Callable[[Meter], list[Figure]] = getattr(import_module(f"{_HERE}.{module}"), function)
    return measure(meter)
