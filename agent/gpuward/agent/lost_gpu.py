"""A GPU that does not answer as one, as the driver tells it."""

from __future__ import annotations

from dataclasses import dataclass

# XIDs after which the driver may not reach the GPU any more.
TAKING_XIDS = frozenset({79, 46, 62, 140, 143, 158, 167})


@dataclass(frozen=True, slots=True)
class LostGpu:
    """``gpu`` is empty when it never said who it is.

    ``code``: nvmlReturn_t, as GPU_IS_LOST 15, RESET_REQUIRED 16, GPU_NOT_FOUND 28.
    """

    index: int
    code: int
    gpu: str = ""
    text: str = ""
