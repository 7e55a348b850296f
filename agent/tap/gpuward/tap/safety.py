"""Say whether the allocator may be asked, and by whom: the deadlock rule, and the sleep rule.

An allocator that takes the GIL in its callbacks does so while torch's allocator lock is held.
Whoever asks for statistics holds the GIL and waits for that lock, so both wait for ever.  torch's
rule is "GIL, then allocator lock"; vLLM's sleep mode, Dynamo's memory service and RMM break it, and
any other allocator that a program brings may: ``own_allocators`` sees those that torch knows of.

A main thread that runs no Python may sit in ``cudaMalloc`` with the lock, for ever when the driver
hangs: whoever asks then stops every other Python thread.  Only one that waits in a module of the
standard library made for waiting is known not to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container
    from types import FrameType

# Modules whose allocators call into Python; they are imported only where they are used.
GIL_TAKING_ALLOCATORS = (
    "gpu_memory_service",
    "rmm.allocators.torch",
    "vllm.device_allocator.cumem",
)

# Where a main thread stands while other threads or processes do the work.
WAITING_MODULES = (
    "asyncio",
    "concurrent",
    "multiprocessing",
    "queue",
    "selectors",
    "socket",
    "socketserver",
    "subprocess",
    "threading",
)


def is_safe_to_ask(
    backend: str, modules: Container[str], *, brings_own: bool = False, in_step: bool = False
) -> bool:
    """Return whether no allocator here can take the GIL and ``backend`` keeps the statistics.

    ``backend``: as ``torch.cuda.get_allocator_backend()`` says; those of others than the native
    one are empty, or raise.  ``brings_own``: the program made an allocator for torch to call.
    ``in_step``: the caller is the thread that allocates, between two steps of its engine, and thus
    knows that the lock is free: taking the GIL does no harm.
    """
    may_take_gil = brings_own or any(name in modules for name in GIL_TAKING_ALLOCATORS)
    return backend == "native" and (in_step or not may_take_gil)


def is_waiting(innermost: FrameType | None) -> bool:
    """Return whether the thread whose innermost Python frame this is waits for others."""
    module = str(innermost.f_globals.get("__name__", "")) if innermost is not None else ""
    return module.partition(".")[0] in WAITING_MODULES
