"""Read fields that came from outside: bounded, checked, mended where they are merely odd."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from enum import StrEnum

    from google.protobuf.timestamp_pb2 import Timestamp

NAME_LIMIT = 256
ID_LIMIT = 128
# Largest integer that both databases hold.
INTEGER_LIMIT = (1 << 63) - 1
NOTES_LIMIT = 20
# A node's clock may be ahead by this; a finding may be this old.
AHEAD_S = 300.0
OLDEST_S = 365 * 86_400.0

E = TypeVar("E", bound="StrEnum")
T = TypeVar("T")


@dataclass(slots=True)
class Reader:
    """Reads fields of one message that arrived at ``now_s``; ``notes`` says what it mended."""

    now_s: float
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if len(self.notes) < NOTES_LIMIT:
            self.notes.append(text)

    def text(self, value: str, name: str, limit: int = NAME_LIMIT) -> str:
        """Return ``value`` on one line without control characters, at most ``limit`` long."""
        if len(value) <= limit and value.isprintable():
            return value
        clean = "".join(c if c.isprintable() else " " for c in value)
        if len(clean) > limit:
            self.note(f"{name}: cut to {limit} characters")
        return clean[:limit]

    def number(self, value: float, name: str, low: float, high: float) -> float:
        """Return ``value`` within bounds; what is no number becomes ``low``."""
        if low <= value <= high:
            return value
        self.note(f"{name}: {value} is not within {low}..{high}")
        return low if math.isnan(value) else min(high, max(low, value))

    def at(self, value: Timestamp, name: str) -> float:
        """Return a wall time that is neither in the future nor of another age."""
        seconds = value.seconds + value.nanos / 1e9
        if self.now_s - OLDEST_S <= seconds <= self.now_s + AHEAD_S:
            return min(seconds, self.now_s)
        self.note(f"{name}: {seconds:.0f} is not near {self.now_s:.0f}; the time of arrival stands")
        return self.now_s

    def one_of(self, table: Mapping[int, E], value: int, fallback: E, name: str) -> E:
        if value not in table:
            self.note(f"{name}: {value} is unknown, taken as {fallback}")
        return table.get(value, fallback)

    def bounded(self, items: Sequence[T], name: str, limit: int) -> Sequence[T]:
        """Return the first ``limit`` of ``items``."""
        if len(items) > limit:
            self.note(f"{name}: {len(items)} given, the first {limit} kept")
        return items[:limit]
