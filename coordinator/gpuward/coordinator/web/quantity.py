"""Write a value in its Prometheus base unit the way a tired person reads it best."""

from __future__ import annotations

from math import isfinite

KIBI = 1024.0
KILO = 1000.0
MULTIPLE = 10.0
SUFFIX = {"celsius": " °C", "watts": " W", "volts": " V"}


def quantity(value: float, unit: str) -> str:
    """Return ``value`` with its unit: ``12.3 GiB``, ``85.0 %``, ``1.98 GHz``, ``300 ms``."""
    match unit:
        case "bytes":
            return _scaled(value, KIBI, ("B", "KiB", "MiB", "GiB", "TiB"))
        case "hertz":
            return _scaled(value, KILO, ("Hz", "kHz", "MHz", "GHz"))
        case "ratio":
            # A share is read in percent, a multiple is not.
            return f"{value * 100:.1f} %" if abs(value) < MULTIPLE else f"{_short(value)} times"
        case "seconds":
            return _seconds(value)
        case _:
            return f"{_short(value)}{SUFFIX.get(unit, '' if unit in {'', '1'} else f' {unit}')}"


def _seconds(value: float) -> str:
    if abs(value) >= 1 or value == 0:
        return f"{_short(value)} s"
    return _scaled(value * 1e6, KILO, ("µs", "ms"))


def _scaled(value: float, step: float, units: tuple[str, ...]) -> str:
    place = 0
    while isfinite(value) and abs(value) >= step and place < len(units) - 1:
        value /= step
        place += 1
    return f"{_short(value)} {units[place]}"


def _short(value: float) -> str:
    """Three digits that mean something, whole numbers whole."""
    if not isfinite(value):
        return f"{value}"
    if value == int(value):
        return f"{int(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 - digits
