"""Sizes and options of torch's CUDA caching allocator, as ``PYTORCH_CUDA_ALLOC_CONF`` names them.

Constants: torch 2.13 ``c10/core/AllocatorConfig.h``.  Only the options whose effect on memory the
replica reproduces are known here; any other option is refused rather than silently ignored.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

MIB = 1 << 20

# Every block is a multiple of this.
MIN_BLOCK_BYTES = 512
# Largest rounded request that goes to the small pool.
SMALL_REQUEST_BYTES = MIB
SMALL_SEGMENT_BYTES = 2 * MIB
LARGE_SEGMENT_BYTES = 20 * MIB
# Requests from here on get a segment of their own size, rounded up to ROUND_LARGE_BYTES.
MIN_LARGE_SEGMENT_BYTES = 10 * MIB
ROUND_LARGE_BYTES = 2 * MIB
# How much larger than an oversize request an oversize block may be and still serve it.
MAX_NON_SPLIT_ROUNDING_BYTES = 20 * MIB

NO_LIMIT = sys.maxsize


@dataclass(frozen=True, slots=True)
class AllocatorConfig:
    """Options of one allocator; the defaults are torch's.

    ``roundup_power2_divisions``: 0 or 1 switches it off; otherwise a power of two.
    ``max_split_size_bytes``: blocks of at least this size are never split.
    """

    expandable_segments: bool = False
    roundup_power2_divisions: int = 0
    max_split_size_bytes: int = NO_LIMIT

    def __post_init__(self) -> None:
        divisions = self.roundup_power2_divisions
        if divisions < 0 or divisions & (divisions - 1):
            raise ValueError(f"roundup_power2_divisions:{divisions} is not a power of two")
        if self.max_split_size_bytes < LARGE_SEGMENT_BYTES:
            raise ValueError("max_split_size_mb must be at least 20")

    @classmethod
    def parse(cls, text: str) -> AllocatorConfig:
        """Return the configuration that ``text`` (``"name:value,name:value"``) describes.

        Raises ``ValueError`` naming the option that is unknown or has a bad value.
        """
        options: dict[str, str] = {}
        for item in filter(None, (part.strip() for part in text.split(","))):
            name, colon, value = item.partition(":")
            if not colon:
                raise ValueError(f"{item!r}: want name:value")
            options[name.strip()] = value.strip()
        config = cls(
            expandable_segments=_boolean(options.pop("expandable_segments", "False")),
            roundup_power2_divisions=int(options.pop("roundup_power2_divisions", "0")),
            max_split_size_bytes=_mebibytes(options.pop("max_split_size_mb", "")),
        )
        if options:
            raise ValueError(f"{', '.join(sorted(options))}: not known to the replica")
        return config

    def round_size(self, size: int) -> int:
        """Return the size of the block that serves a request of ``size`` bytes."""
        if size < MIN_BLOCK_BYTES:
            return MIN_BLOCK_BYTES
        divisions = self.roundup_power2_divisions
        if divisions > 1 and size > MIN_BLOCK_BYTES * divisions:
            return _next_division(size, divisions)
        return _round_up(size, MIN_BLOCK_BYTES)


def segment_size(rounded: int) -> int:
    """Return how much the allocator asks of the driver for a block of ``rounded`` bytes."""
    if rounded <= SMALL_REQUEST_BYTES:
        return SMALL_SEGMENT_BYTES
    if rounded < MIN_LARGE_SEGMENT_BYTES:
        return LARGE_SEGMENT_BYTES
    return _round_up(rounded, ROUND_LARGE_BYTES)


def _next_division(size: int, divisions: int) -> int:
    floor = 1 << (size.bit_length() - 1)
    return _round_up(size, floor // divisions)


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _boolean(text: str) -> bool:
    if text not in {"True", "False"}:
        raise ValueError(f"expandable_segments:{text}: want True or False")
    return text == "True"


def _mebibytes(text: str) -> int:
    return int(text) * MIB if text else NO_LIMIT
