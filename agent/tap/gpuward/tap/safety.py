"""Say whether the allocator may be asked at all in this process: the deadlock rule.

An allocator that takes the GIL in its callbacks does so while torch's allocator lock is held.
Whoever asks for statistics holds the GIL and waits for that lock, so both wait for ever.  torch's
rule is "GIL, then allocator lock"; vLLM's sleep mode, Dynamo's memory service and RMM break it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

# Modules whose allocators call into Python; they are imported only where they are used.
GIL_TAKING_ALLOCATORS = (
    "gpu_memory_service",
    "rmm.allocators.torch",
    "vllm.device_allocator.cumem",
)


def is_safe_to_ask(backend: str, modules: Container[str]) -> bool:
    """Return whether no allocator here can take the GIL and ``backend`` keeps the statistics.

    ``backend``: as ``torch.cuda.get_allocator_backend()`` says; those of others than the native
    one are empty, or raise.
    """
    return backend == "native" and not any(name in modules for name in GIL_TAKING_ALLOCATORS)
