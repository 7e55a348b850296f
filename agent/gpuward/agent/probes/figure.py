"""What a probe measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity in a base unit, which its name ends in."""

    name: str
    value: float


class Stalled(Exception):  # noqa: N818 - the condition's name
    """The device did not finish the work by the deadline."""
