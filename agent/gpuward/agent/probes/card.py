"""The one GPU of this process: its context, and all that probes need there, made once.

Everything is allocated when the card is opened, by plain cudaMalloc and cudaHostAlloc: afterwards
what the worker holds does not change, because memory that comes or goes beside an engine that
starts can end that engine.  No memory pool, no cuBLAS: a context and the buffers are all that this
costs.  An event is asked whether it is done until the deadline, never waited for, since that wait
has no end when the driver hangs.
"""

from __future__ import annotations

import time
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from gpuward.agent.probes.figure import Meter, Stalled, Unsupported, Unusable

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE_S = 2.0
# Larger than the second-level cache, 50 MB on Hopper: a copy has to go to memory.
BUFFER_BYTES = 64 << 20
PINNED_BYTES = 16 << 20
# cudaMemcpyKind.
TO_DEVICE, TO_HOST, ON_DEVICE = 1, 2, 3


class Card:
    """Buffers ``left`` and ``right`` on the GPU, ``pinned`` on the host, and one stream."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        cupy.cuda.set_allocator(None)
        cupy.cuda.set_pinned_memory_allocator(None)
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self._begin, self._end = cupy.cuda.Event(), cupy.cuda.Event()
        self.left = cupy.cuda.Memory(BUFFER_BYTES)
        self.right = cupy.cuda.Memory(BUFFER_BYTES)
        self.pinned = cupy.cuda.PinnedMemory(PINNED_BYTES)
        self.host = cupy.cuda.PinnedMemoryPointer(self.pinned, 0)
        self._kernels: dict[str, Any] = {}

    @property
    def runtime(self) -> Any:
        return self._cupy.cuda.runtime

    def kernel(self, name: str) -> Any:
        """Return ``gpuward_<name>``, compiled from the source that is shipped."""
        if name not in self._kernels:
            self._kernels[name] = self._cupy.RawKernel(_source(name), f"gpuward_{name}")
        return self._kernels[name]

    def copy(self, target: int, source: int, size_bytes: int, kind: int) -> None:
        """Begin a copy on the stream."""
        self.runtime.memcpyAsync(target, source, size_bytes, kind, self.stream.ptr)

    def timed(self, work: Callable[[], None], meter: Meter) -> tuple[float, float]:
        """Return wall and event seconds of ``work``; raises ``Stalled`` at the deadline."""
        with self.stream:
            started_s = time.perf_counter()
            self._begin.record(self.stream)
            work()
            self._end.record(self.stream)
            while not self._end.done:
                if time.perf_counter() - started_s > DEADLINE_S:
                    raise Stalled(f"work of microseconds was not done within {DEADLINE_S:g} s")
            wall_s = time.perf_counter() - started_s
        event_s = self._cupy.cuda.get_elapsed_time(self._begin, self._end) / 1e3
        meter.busy_s += event_s
        return wall_s, event_s


_opened: list[bool] = []


def is_open() -> bool:
    """Return whether this process holds a context, or may: its opening was begun."""
    return bool(_opened)


@cache
def card() -> Card:
    """Return the card, opened at the first call.

    Raises ``ImportError`` without CuPy, ``Unsupported`` without its compiler, ``Unusable`` without
    a driver; all before there is a context.
    """
    import cupy

    try:
        cupy.cuda.nvrtc.getVersion()
    except RuntimeError as error:
        # CuPy 13 and 14 word it differently.
        raise Unsupported(f"no NVRTC for CuPy: {str(error).splitlines()[0]}") from error
    try:
        cupy.cuda.runtime.getDeviceCount()
    except RuntimeError as error:
        raise Unusable(str(error)) from error
    _opened.append(True)
    return Card(cupy)


def _source(name: str) -> str:
    """Return the CUDA source that is shipped with gpuward.native."""
    return (resources.files("gpuward.native") / "probes" / f"{name}.cu").read_text("utf-8")
