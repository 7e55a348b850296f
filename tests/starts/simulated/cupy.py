"""CuPy as far as the probe worker uses it, on the simulated driver: real memory accounting, no GPU.

NVIDIA's runtime inside CuPy refuses a driver that is not theirs, so this stands in at its import.
What it takes of the simulated GPU, and when, is what the real one would: a context at the first
object, each buffer when it is made, all of it until the process ends.
"""

from __future__ import annotations

import ctypes
import os
from types import SimpleNamespace

from gpuward.simulator.state import State

CONTEXT_BYTES = 512 << 20
EVENT_MS = 0.005
ADDRESS = 1 << 32
STEP_CYCLES, STEP_NS = 4_000, 2_000

_state = State.open()
_uuid = os.environ["CUDA_VISIBLE_DEVICES"].encode()
_index = next(at for at, gpu in enumerate(_state.row.gpus) if gpu.uuid == _uuid)


def _take(size: int) -> None:
    if not _state.take(_index, os.getpid(), size):
        raise RuntimeError(f"cudaErrorMemoryAllocation: {size} bytes of GPU {_index}")


def _malloc(size: int) -> int:
    _take(size)
    return size


def _free(size: int) -> None:
    _state.give_back(_index, os.getpid(), size)


class _Event:
    done = True

    def record(self, stream: object) -> None:
        """All work is over at once."""


class _Stream:
    ptr = 0

    def __init__(self, *, non_blocking: bool) -> None:
        assert non_blocking
        _take(CONTEXT_BYTES)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


class _Memory:
    def __init__(self, size: int) -> None:
        _take(size)
        self.ptr = ADDRESS


class _PinnedMemory:
    def __init__(self, size: int) -> None:
        self.buffer = (ctypes.c_char * size)()
        self.ptr = ctypes.addressof(self.buffer)


def _copy(target: int, source: int, size: int, kind: int, stream: int) -> None:
    """Give back what the spinning kernel would have read: its two clocks."""
    looks = size // 16
    if source == ADDRESS and looks == 100:
        words = (ctypes.c_int64 * (2 * looks)).from_address(target)
        for at in range(looks):
            words[at], words[looks + at] = at * STEP_CYCLES, at * STEP_NS


def _allocator(function: None) -> None:
    """Any is none."""


class RawKernel:
    """A kernel that does nothing."""

    def __init__(self, source: str, name: str) -> None:
        assert name in source

    def __call__(self, grid: object, block: object, arguments: object) -> None:
        """Run at once."""


cuda = SimpleNamespace(
    Event=_Event,
    Memory=_Memory,
    PinnedMemory=_PinnedMemory,
    PinnedMemoryPointer=lambda memory, offset: memory.buffer,
    Stream=_Stream,
    get_elapsed_time=lambda begin, end: EVENT_MS,
    nvrtc=SimpleNamespace(getVersion=lambda: (13, 0)),
    runtime=SimpleNamespace(
        getDeviceCount=lambda: 1, memcpyAsync=_copy, malloc=_malloc, free=_free
    ),
    set_allocator=_allocator,
    set_pinned_memory_allocator=_allocator,
)
