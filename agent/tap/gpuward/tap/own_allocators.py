"""Notice that the program brings an allocator of its own: torch calls it with its lock held.

Where that allocator runs Python it takes the GIL there, and whoever asks torch for statistics holds
the GIL and waits for the lock.  torch itself ships such a one (``torch.cuda._use_uvm``), vLLM, RMM
and Dynamo others, and nothing that can be asked later tells of it: a pool does not say who serves
it.  All of them are made by one function of torch, so that is where to look.
"""

from __future__ import annotations

from typing import Any

_MAKER = "_cuda_customAllocator"
_made: list[None] = []


def watch(torch: Any) -> None:
    """Look on, from now on, when the program makes an allocator; older torch has the same name."""
    make = getattr(torch._C, _MAKER, None)  # noqa: SLF001
    if make is None:
        return

    def watched(*args: Any, **kwargs: Any) -> Any:
        _made.append(None)
        return make(*args, **kwargs)

    watched.__doc__ = make.__doc__
    watched.__wrapped__ = make  # type: ignore[attr-defined]
    setattr(torch._C, _MAKER, watched)  # noqa: SLF001


def is_any() -> bool:
    """Return whether one was made; it may be in use for as long as the process lives."""
    return bool(_made)
