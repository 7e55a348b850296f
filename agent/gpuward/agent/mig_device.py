"""A slice of a GPU, MIG in NVIDIA's words: its own memory and multiprocessors, its own UUID."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MigDevice:
    """What processes see as a GPU of their own; ``uuid`` as the driver says it."""

    uuid: str
    gpu_instance: int
    compute_instance: int
