"""Draw one series over time for a terminal: braille dots, 80 columns.  Pure.

A column of dots is a stretch of time; what was least and most in it is drawn as a bar, so that a
spike of one second is seen in the picture of a day.  Where nothing was known, nothing is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from math import floor, inf, log10
from statistics import median_low
from typing import TYPE_CHECKING, NamedTuple

from gpuward.memory_map.text import size_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

LABEL_WIDTH = 10
# So many rows have a label in the middle too.
LABELLED_FROM = 6
# Of a character; its eight dots by column and row, the first row at the top.
DOTS_WIDE, DOTS_HIGH = 2, 4
_BLANK = 0x2800
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
# Times under the axis stand so far apart at least.
TICK_WIDTH = 16
SECONDS_BELOW_S = 600
WHOLE_FROM = 100
# A lane that is a little late is no gap.
HELD_FOR_PAUSES = 2.5
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
_UNITS = {
    "seconds": "s",
    "hertz": "Hz",
    "watts": "W",
    "celsius": "°C",
    "ratio": "%",
    "second": "B/s",
}


class Reading(NamedTuple):
    """A value at a wall time; ``least`` and ``most`` are of the time around it."""

    at_s: float
    value: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Frame:
    """The time that is shown, and the values that the axis spans."""

    since_s: float
    until_s: float
    bottom: float
    top: float


def frame_of(readings: Sequence[Reading], since_s: float, until_s: float) -> Frame:
    """Return a frame around ``readings``, at least one; it begins at 0 where that is not far."""
    least, most = min(r.least for r in readings), max(r.most for r in readings)
    # A memory that is always between 60 and 61 GiB is a line: what moves in it is the news.
    if 0 <= least < most / 2:
        least = 0.0
    if most - least < abs(most) * 1e-3 or most == least:
        room = abs(most) * 0.05 or 1.0
        least, most = (least - room if least else 0.0), most + room
    return Frame(since_s, until_s, least, most)


def chart(
    readings: Sequence[Reading], frame: Frame, *, signal: str, width: int, rows: int
) -> list[str]:
    """Return ``rows`` lines of dots behind their axis, of ``width`` columns at most."""
    columns = width - LABEL_WIDTH - 2
    bars = _bars(readings, frame, columns * DOTS_WIDE)
    dots = _canvas(bars, frame, columns, rows)
    lines = []
    for row, cells in enumerate(dots):
        share = 1 - row / max(1, rows - 1)
        is_labelled = row in (0, rows - 1) or (rows >= LABELLED_FROM and row == rows // 2)
        value = frame.bottom + share * (frame.top - frame.bottom)
        label = value_text(signal, value) if is_labelled else ""
        plot = "".join(chr(_BLANK + cell) if cell else " " for cell in cells).rstrip()
        lines.append(f"{label:>{LABEL_WIDTH}} {'┤' if is_labelled else '│'}{plot}")
    return lines


def time_axis(frame: Frame, width: int, zone: tzinfo | None) -> list[str]:
    """Return the axis and the times below it, in ``zone``; ``None`` for the terminal's own."""
    columns = width - LABEL_WIDTH - 2
    ticks = max(1, columns // TICK_WIDTH)
    places = [round(number * (columns - 1) / ticks) for number in range(ticks + 1)]
    axis = "".join("┬" if place in places else "─" for place in range(columns))
    times = [" "] * (width + 1)
    span_s = frame.until_s - frame.since_s
    pattern = "%H:%M:%S" if span_s < SECONDS_BELOW_S else "%H:%M"
    for place in places:
        at_s = frame.since_s + span_s * place / (columns - 1)
        text = datetime.fromtimestamp(at_s, zone).strftime(pattern)
        begin = min(LABEL_WIDTH + 2 + place - len(text) // 2, width - len(text))
        times[begin : begin + len(text)] = text
    return [f"{'':{LABEL_WIDTH}} └{axis}", "".join(times).rstrip()]


def value_text(signal: str, value: float) -> str:
    """Return ``value`` of ``signal`` in three digits with a unit: "61.2 GiB", "1.98 GHz"."""
    words = signal.removesuffix("_total").split("_")
    if words[-1] == "bytes":
        return ("-" if value < 0 else "") + size_text(abs(round(value)))
    if words[-1] == "ratio":
        return f"{value:.3g}" if "headroom" in words else f"{100 * value:.0f} %"
    unit = _UNITS.get(words[-1], "")
    if unit in ("W", "°C", ""):
        number = f"{value:,.0f}" if abs(value) >= WHOLE_FROM else f"{value:.3g}"
        return f"{number} {unit}".rstrip()
    size, prefix = next((p for p in _PREFIXES if abs(value) >= p[0]), _PREFIXES[3])
    scaled = value / size
    digits = max(0, 2 - floor(log10(abs(scaled)))) if scaled else 0
    return f"{scaled:.{digits}f} {prefix}{unit}"


def summary(readings: Sequence[Reading], *, signal: str, zone: tzinfo | None) -> str:
    """Return what the picture cannot say: the last value, the extremes and their times."""
    least = min(readings, key=lambda reading: reading.least)
    most = max(readings, key=lambda reading: reading.most)
    words = [f"last {value_text(signal, readings[-1].value)}"]
    for word, reading, value in (("least", least, least.least), ("most", most, most.most)):
        at = datetime.fromtimestamp(reading.at_s, zone).strftime("%H:%M:%S")
        words.append(f"{word} {value_text(signal, value)} at {at}")
    return "   ".join(words)


class _Bar(NamedTuple):
    low: float
    high: float


def _bars(readings: Sequence[Reading], frame: Frame, columns: int) -> list[_Bar | None]:
    """Return the least and the most of each column of dots; ``None`` where nothing was known.

    A value holds until the next, unless that is long in coming for this series: then it is a gap.
    """
    bars: list[_Bar | None] = [None] * columns
    per_column_s = (frame.until_s - frame.since_s) / columns
    places = [floor((reading.at_s - frame.since_s) / per_column_s) for reading in readings]
    pauses_s = [later.at_s - sooner.at_s for sooner, later in pairwise(readings)]
    longest_s = HELD_FOR_PAUSES * median_low(pauses_s) if len(pauses_s) > 1 else 0.0
    # The last has no next.
    for reading, place, next_place, pause_s in zip(
        readings, places, [*places, 0][1:], [*pauses_s, inf], strict=False
    ):
        end = max(place + 1, next_place) if pause_s <= longest_s else place + 1
        for column in range(max(0, place), min(end, columns)):
            bar = bars[column]
            low = reading.least if bar is None else min(bar.low, reading.least)
            high = reading.most if bar is None else max(bar.high, reading.most)
            bars[column] = _Bar(low, high)
    return bars


def _canvas(bars: Sequence[_Bar | None], frame: Frame, columns: int, rows: int) -> list[list[int]]:
    """Return the dots of each character by row."""
    canvas = [[0] * columns for _ in range(rows)]
    height = rows * DOTS_HIGH
    scale = (height - 1) / (frame.top - frame.bottom)
    before: tuple[int, int] | None = None
    for place, bar in enumerate(bars):
        if bar is None:
            before = None
            continue
        low, high = (round((value - frame.bottom) * scale) for value in bar)
        # Joined to its neighbour, so that a steep rise is a line and not two points.
        first = low if before is None else min(low, before[1] + 1)
        last = high if before is None else max(high, before[0] - 1)
        for dot in range(max(0, first), min(height - 1, last) + 1):
            row = rows - 1 - dot // DOTS_HIGH
            inside = DOTS_HIGH - 1 - dot % DOTS_HIGH
            canvas[row][place // DOTS_WIDE] |= _DOTS[place % DOTS_WIDE][inside]
        before = (low, high)
    return canvas
