"""Sizes and options of torch's CUDA caching allocator, as ``PYTORCH_CUDA_ALLOC_CONF`` names them.

Constants: torch 2.13 ``c10/core/AllocatorConfig.h``.  Only the options whose effect on memory the
replica reproduces are known here; any other option is refused rather than silently ignored.
"""

from __future__ import annotations

import re
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
NON_SPLIT_ROUNDING_BYTES = 20 * MIB
# Divisions of powers of two are set for requests of below 2 MiB, below 4 MiB, ..., from 32 GiB on.
ROUNDUP_INTERVALS = 16

NO_LIMIT = sys.maxsize


@dataclass(frozen=True, slots=True)
class AllocatorConfig:
    """Options of one allocator; the defaults are torch's.

    ``roundup_power2_divisions``: for each of the ``ROUNDUP_INTERVALS`` 0 or 1, which switches it
    off, or a power of two.
    ``max_split_size_bytes``: blocks of at least this size are never split.
    ``garbage_collection_threshold``: share of the allowed memory, 0 switches it off; it has an
    effect only with a memory fraction below 1.
    """

    expandable_segments: bool = False
    roundup_power2_divisions: tuple[int, ...] = (0,) * ROUNDUP_INTERVALS
    max_split_size_bytes: int = NO_LIMIT
    max_non_split_rounding_bytes: int = NON_SPLIT_ROUNDING_BYTES
    large_segment_bytes: int = LARGE_SEGMENT_BYTES
    garbage_collection_threshold: float = 0.0
    per_process_memory_fraction: float = 1.0

    def __post_init__(self) -> None:
        for divisions in self.roundup_power2_divisions:
            if divisions < 0 or divisions & (divisions - 1):
                raise ValueError(f"roundup_power2_divisions:{divisions} is not a power of two")
        least = self.large_segment_bytes
        if self.max_split_size_bytes < least:
            raise ValueError(f"max_split_size_mb must be at least {least // MIB}")
        if not 0 <= self.garbage_collection_threshold < 1:
            raise ValueError("garbage_collection_threshold must be in (0, 1)")
        if not 0 <= self.per_process_memory_fraction <= 1:
            raise ValueError("per_process_memory_fraction must be in [0, 1]")

    @classmethod
    def parse(cls, text: str) -> AllocatorConfig:
        """Return the configuration that ``text`` (``"name:value,name:[value,value]"``) describes.

        Raises ``ValueError`` naming the option that is unknown or has a bad value.
        """
        options: dict[str, str] = {}
        for item in filter(None, (part.strip() for part in _AT_OPTIONS.split(text))):
            name, colon, value = item.partition(":")
            if not colon:
                raise ValueError(f"{item!r}: want name:value")
            options[name.strip()] = value.strip()
        config = cls(
            expandable_segments=_boolean(options.pop("expandable_segments", "False")),
            roundup_power2_divisions=_divisions(options.pop("roundup_power2_divisions", "0")),
            max_split_size_bytes=_mebibytes(options.pop("max_split_size_mb", ""), NO_LIMIT),
            max_non_split_rounding_bytes=_mebibytes(
                options.pop("max_non_split_rounding_mb", ""), NON_SPLIT_ROUNDING_BYTES
            ),
            large_segment_bytes=_mebibytes(
                options.pop("large_segment_size_mb", ""), LARGE_SEGMENT_BYTES
            ),
            garbage_collection_threshold=float(options.pop("garbage_collection_threshold", "0")),
            per_process_memory_fraction=float(options.pop("per_process_memory_fraction", "1")),
        )
        if options:
            raise ValueError(f"{', '.join(sorted(options))}: not known to the replica")
        return config

    def round_size(self, size: int) -> int:
        """Return the size of the block that serves a request of ``size`` bytes."""
        if size < MIN_BLOCK_BYTES:
            return MIN_BLOCK_BYTES
        interval = size.bit_length() - _FIRST_INTERVAL_BITS
        divisions = self.roundup_power2_divisions[
            0 if interval < 0 else min(interval, ROUNDUP_INTERVALS - 1)
        ]
        if divisions > 1 and size > MIN_BLOCK_BYTES * divisions:
            return _next_division(size, divisions)
        return -(-size // MIN_BLOCK_BYTES) * MIN_BLOCK_BYTES


# Commas that are not inside of brackets.
_AT_OPTIONS = re.compile(r",(?![^\[]*\])")
_FIRST_INTERVAL_BITS = MIB.bit_length()


def segment_size(rounded: int, large_segment_bytes: int = LARGE_SEGMENT_BYTES) -> int:
    """Return how much the allocator asks of the driver for a block of ``rounded`` bytes."""
    if rounded <= SMALL_REQUEST_BYTES:
        return SMALL_SEGMENT_BYTES
    if rounded < MIN_LARGE_SEGMENT_BYTES:
        return large_segment_bytes
    return _round_up(rounded, ROUND_LARGE_BYTES)


def _next_division(size: int, divisions: int) -> int:
    floor = 1 << (size.bit_length() - 1)
    return _round_up(size, floor // divisions)


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _divisions(text: str) -> tuple[int, ...]:
    """Return the divisions of every interval, from one number or from ``[64:8,256:4,>:1]``.

    What stands first holds for smaller requests too, ``>`` for all that are larger than the one
    before it; an interval between two that are named has none.
    """
    if not text.startswith("["):
        return (int(text),) * ROUNDUP_INTERVALS
    divisions, last = [0] * ROUNDUP_INTERVALS, -1
    for item in text.strip("[]").split(","):
        name, _, value = item.partition(":")
        if name.strip() == ">":
            divisions[last + 1 :] = [int(value)] * (ROUNDUP_INTERVALS - last - 1)
            continue
        mebibytes = int(name)
        if mebibytes <= 0 or mebibytes & (mebibytes - 1):
            raise ValueError(f"roundup_power2_divisions: {mebibytes} is not a power of two")
        first = last < 0
        last = min(mebibytes.bit_length() - 1, ROUNDUP_INTERVALS - 1)
        divisions[0 if first else last : last + 1] = [int(value)] * (last + 1 if first else 1)
    return tuple(divisions)


def _boolean(text: str) -> bool:
    if text not in {"True", "False"}:
        raise ValueError(f"expandable_segments:{text}: want True or False")
    return text == "True"


def _mebibytes(text: str, default: int) -> int:
    return int(text) * MIB if text else default
