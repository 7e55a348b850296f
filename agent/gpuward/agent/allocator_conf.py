"""Read how torch's caching allocator was told to behave: ``PYTORCH_ALLOC_CONF``.  Pure.

``key:value`` pairs apart by commas, where a value may be a list in brackets that has commas and
colons of its own; of a key that comes twice the last counts (``c10/core/AllocatorConfig.cpp``).
Only what changes advice is read, and only as numbers: the text comes from an untrusted writer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

MIB = 2**20

_EXPANDABLE = re.compile(r"(?:^|,)expandable_segments:(\w+)")
_MAX_SPLIT_MIB = re.compile(r"(?:^|,)max_split_size_mb:(\d{1,9})(?![\d.])")
_ROUNDUP = re.compile(r"(?:^|,)roundup_power2_divisions:(?:\[(.*?)\]|(\d{1,6}))")
_DIVISIONS = re.compile(r":(\d{1,6})")


@dataclass(frozen=True, slots=True)
class AllocatorConf:
    """What is set; ``roundup_divisions`` is the coarsest of a list: 1 rounds to powers of two."""

    expandable: bool = False
    max_split_size_bytes: int | None = None
    roundup_divisions: int | None = None


@lru_cache(maxsize=256)
def parse_allocator_conf(text: str) -> AllocatorConf:
    """Return the settings in ``text``; what is not understood is as if it were not set."""
    text = re.sub(r"\s", "", text)
    expandable = _EXPANDABLE.findall(text)
    max_split = _MAX_SPLIT_MIB.findall(text)
    return AllocatorConf(
        expandable=bool(expandable) and expandable[-1].lower() in ("true", "1"),
        max_split_size_bytes=int(max_split[-1]) * MIB or None if max_split else None,
        roundup_divisions=_roundup(text),
    )


def _roundup(text: str) -> int | None:
    found = _ROUNDUP.findall(text)
    if not found:
        return None
    listed, single = found[-1]
    # 0 is no rounding.
    divisions = [int(word) for word in (_DIVISIONS.findall(listed) if listed else [single])]
    return min(filter(None, divisions), default=None)
