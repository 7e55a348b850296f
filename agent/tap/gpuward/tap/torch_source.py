"""All that the tap asks of torch, feature by feature: versions are never compared.

``mem_get_info`` is not among it: it would create a CUDA context, hundreds of megabytes, on a GPU
that this process does not use.  Peaks and counters are never reset: frameworks read them too.
"""

from __future__ import annotations

import os
import sys
import uuid
from typing import TYPE_CHECKING, Any

from gpuward.tap import layout
from gpuward.tap.publisher import Publisher
from gpuward.tap.safety import is_safe_to_ask

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
        )

    def stats(self, ordinal: int) -> Mapping[str, Any]:
        """Return the nested statistics of a device: constant time, but under the allocator lock."""
        stats: Mapping[str, Any] = self._torch.cuda.memory_stats_as_nested_dict(ordinal)
        return stats

    def is_safe_to_ask(self) -> bool:
        """Return whether ``stats`` cannot deadlock now; an allocator may be loaded later."""
        return is_safe_to_ask(self._backend(), sys.modules)

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
