"""All that the tap asks of torch, feature by feature: versions are never compared.

``mem_get_info`` is not among it: it would create a CUDA context, hundreds of megabytes, on a GPU
that this process does not use.  Peaks and counters are never reset: frameworks read them too.
"""

from __future__ import annotations

import gc
import inspect
import os
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

from gpuward.tap import layout, own_allocators
from gpuward.tap.memory_walk import Walk
from gpuward.tap.publisher import Publisher
from gpuward.tap.safety import is_safe_to_ask
from gpuward.tap.walk_budget import MIN_PERIOD_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# A tap file of more devices would be larger than readers accept.
MAX_DEVICES = 25
FRAMEWORKS = ("vllm", "sglang", "tensorrt_llm", "text_generation_server")


class TorchSource:
    """The caching allocator of the torch module ``torch``; of use once it ``is_ready``."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._alloc_conf = (
            os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF") or ""
        )
        conf = self._alloc_conf.replace(" ", "").lower()
        self.flags = layout.EXPANDABLE if "expandable_segments:true" in conf else 0
        self._can_walk = hasattr(torch.cuda, "memory_snapshot")

    def is_ready(self) -> bool:
        """Return whether CUDA is initialised, so that no call here would begin to do it."""
        return bool(self._torch.cuda.is_initialized())

    def open_publisher(self, directory: str, period_ms: int) -> Publisher:
        """Make the tap file; raises ``OSError``, or whatever torch raises."""
        cuda = self._torch.cuda
        devices = [
            (uuid.UUID(str(cuda.get_device_properties(ordinal).uuid)).bytes, ordinal)
            for ordinal in range(min(cuda.device_count(), MAX_DEVICES))
        ]
        return Publisher(
            directory,
            devices,
            torch_version=str(self._torch.__version__),
            allocator_backend=self._backend(),
            framework=_framework(),
            alloc_conf=self._alloc_conf,
            rank=_number("RANK"),
            world=_number("WORLD_SIZE"),
            period_ms=period_ms,
            snapshot_min_period_ms=MIN_PERIOD_NS // 1_000_000 if self._can_walk else 0,
            header_flags=layout.ACCEPTS_REQUESTS if self._can_walk else 0,
        )

    def stats(self, ordinal: int) -> Mapping[str, Any]:
        """Return the nested statistics of a device: constant time, but under the allocator lock."""
        stats: Mapping[str, Any] = self._torch.cuda.memory_stats_as_nested_dict(ordinal)
        return stats

    def walk(self) -> Walk:
        """Return all blocks of all devices; a walk under the allocator lock, with the GIL."""
        snapshot = self._torch.cuda.memory_snapshot
        # Entries of a trace cost far more than the blocks, where a program records them.
        is_light = "include_traces" in inspect.signature(snapshot).parameters
        options = {"include_traces": False} if is_light else {}
        collects = gc.isenabled()
        mono_ns, real_ns = time.monotonic_ns(), time.time_ns()
        try:
            # Thousands of new objects would otherwise set off a collection of all the program has.
            gc.disable()
            segments = snapshot(**options)
        finally:
            if collects:
                gc.enable()
        return Walk(segments, mono_ns, real_ns, time.monotonic_ns() - mono_ns)

    def is_recording(self) -> bool:
        """Return whether torch records who allocates: a walk would then resolve each stack."""
        ask = getattr(self._torch._C, "_cuda_isHistoryEnabled", None)  # noqa: SLF001
        return bool(ask()) if ask is not None else False

    def is_safe_to_ask(self, *, in_step: bool) -> bool:
        """Return whether ``stats`` cannot deadlock now; an allocator may be loaded later."""
        return is_safe_to_ask(
            self._backend(), sys.modules, brings_own=own_allocators.is_any(), in_step=in_step
        )

    def observe_oom(self, observer: Callable[[int, int, int, int], None]) -> None:
        """Call ``observer(ordinal, request, device_total, device_free)`` at each error, for ever.

        torch calls it in the thread that failed, after the allocator lock is released.
        """
        attach = getattr(self._torch._C, "_cuda_attach_out_of_memory_observer", None)  # noqa: SLF001
        if attach is not None:
            attach(observer)

    def _backend(self) -> str:
        return str(self._torch.cuda.memory.get_allocator_backend())


def _framework() -> str:
    for name in FRAMEWORKS:
        module = sys.modules.get(name)
        if module is not None:
            return f"{name} {getattr(module, '__version__', '')}".rstrip()
    return ""


def _number(variable: str) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0  # noqa: PLR2004 - fits 32 bits
