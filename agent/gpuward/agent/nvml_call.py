"""What one NVML call is to the child: its name, how often it is made, the signals in its answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Lane(Enum):
    """How often a call is made, by what it costs; ``longest_s`` stays below what makes it stale."""

    FAST = (1.0, 8.0)
    MEDIUM = (5.0, 20.0)
    SLOW = (30.0, 60.0)

    def __init__(self, period_s: float, longest_s: float) -> None:
        self.period_s = period_s
        self.longest_s = longest_s


@dataclass(frozen=True, slots=True)
class Call:
    """One NVML call of a device handle, and the signals in its answer.

    ``read``: for calls that the binding leaves half to its callers: structures to fill, links to
    count.  It gets binding and handle, and ``name`` says what is being called.  A signal whose
    converter returns ``None`` is not in this answer.
    """

    name: str
    lane: Lane
    signals: Mapping[str, Callable[[Any], float | None]]
    arguments: tuple[Any, ...] = ()
    read: Callable[[Any, Any], Any] | None = None

    def make(self, nvml: Any, handle: Any) -> dict[str, float]:
        """Return signal values; raises what the binding raises."""
        if self.read is None:
            answer = getattr(nvml, self.name)(handle, *self.arguments)
        else:
            answer = self.read(nvml, handle)
        return {
            signal: value
            for signal, convert in self.signals.items()
            if (value := convert(answer)) is not None
        }


# A number in a structure of the binding, whose own attributes turn bytes into text and take ten
# times as long to find that there are none.
number_of: Callable[[Any, str], Any] = object.__getattribute__


def member(name: str) -> Callable[[Any], float]:
    """Return what picks the number ``name`` of a structure."""
    return lambda answer: float(number_of(answer, name))


def percent(name: str) -> Callable[[Any], float]:
    """Return what makes a ratio of the number ``name`` of a structure."""
    return lambda answer: float(number_of(answer, name) / 100)


def item(index: int) -> Callable[[Any], float]:
    """Return what picks the ``index``th part of an answer."""
    return lambda answer: float(answer[index])


def milli(value: float) -> float:
    """From thousandths."""
    return value / 1e3


def mega(value: float) -> float:
    """From millions."""
    return value * 1e6


def nano(value: float) -> float:
    """From thousand-millionths."""
    return value / 1e9
