"""What moves by itself: ramps, noise, and the counters that follow power and clocks.

Real counters are integrals, so these are: energy of power, bytes of PCIe traffic, and the time
under each clocks-event reason of the reason bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.simulator.profile import LARGEST

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from gpuward.simulator.state import State

NANOSECONDS = 1_000_000_000

# nvmlClocksEventReasons bit -> the counter of time under it.
REASON_COUNTERS = {
    0x04: "sw_power_cap_nanoseconds",
    0x10: "sync_boost_nanoseconds",
    0x20: "sw_thermal_slowdown_nanoseconds",
    0x40: "hw_thermal_slowdown_nanoseconds",
    0x80: "hw_power_brake_nanoseconds",
}

# Rate in kilobytes a second -> its counter of bytes.
TRAFFIC_COUNTERS = {
    "pcie_transmit_kilobytes_per_second": "pcie_transmit_bytes",
    "pcie_receive_kilobytes_per_second": "pcie_receive_bytes",
}
KILOBYTE = 1000

Place = tuple[int, str]  # GPU index, field


@dataclass(frozen=True, slots=True)
class _Line:
    """A straight line from one value and time to another."""

    from_value: int
    to_value: int
    from_s: float
    to_s: float

    def value_at(self, at_s: float) -> int:
        """Return the value at ``at_s``; the end's value from the end on."""
        if at_s >= self.to_s:
            return self.to_value
        share = (at_s - self.from_s) / (self.to_s - self.from_s)
        return round(self.from_value + share * (self.to_value - self.from_value))


class Motion:
    """Writes fields of the state as time goes on."""

    def __init__(self, state: State, random_source: random.Random) -> None:
        self._state = state
        self._random = random_source
        self._lines: dict[Place, _Line] = {}
        self._amplitudes: dict[Place, int] = {}
        self._undisturbed: dict[Place, int] = {}
        self._last_s = 0.0
        self._energy_millijoules = [0.0] * state.row.gpu_count

    def set_value(self, gpus: Iterable[int], values: dict[str, int]) -> None:
        """Set fields at once; a ramp of the same field ends."""
        for place, value in _places(gpus, values):
            self._lines.pop(place, None)
            self._write(place, value)

    def ramp(self, gpus: Iterable[int], values: dict[str, int], now_s: float, end_s: float) -> None:
        """Start moving fields so that they are ``values`` at ``end_s``."""
        for place, value in _places(gpus, values):
            self._lines[place] = _Line(self._value(place), value, now_s, end_s)

    def add_noise(self, gpus: Iterable[int], amplitudes: dict[str, int]) -> None:
        """Disturb fields by at most their amplitude; 0 leaves a field in peace."""
        for place, amplitude in _places(gpus, amplitudes):
            value = self._value(place)
            if amplitude:
                self._amplitudes[place] = amplitude
                self._undisturbed[place] = value
            elif self._amplitudes.pop(place, 0):
                self._write(place, self._undisturbed.pop(place))

    def advance(self, now_s: float) -> None:
        """Move everything on to ``now_s``."""
        self._integrate(now_s - self._last_s)
        self._last_s = now_s
        for place, line in list(self._lines.items()):
            self._write(place, line.value_at(now_s))
            if now_s >= line.to_s:
                del self._lines[place]
        for place in self._amplitudes:
            self._write(place, self._undisturbed[place])

    def _integrate(self, elapsed_s: float) -> None:
        for index in range(self._state.row.gpu_count):
            gpu = self._state.gpu(index)
            # The remainder below one millijoule is kept for the next turn.
            self._energy_millijoules[index] += gpu.power_draw_milliwatts * elapsed_s
            whole = int(self._energy_millijoules[index])
            self._energy_millijoules[index] -= whole
            gpu.energy_millijoules += whole
            for rate, counter in TRAFFIC_COUNTERS.items():
                moved = int(getattr(gpu, rate) * KILOBYTE * elapsed_s)
                setattr(gpu, counter, getattr(gpu, counter) + moved)
            for bit, counter in REASON_COUNTERS.items():
                if gpu.clocks_event_reasons & bit:
                    setattr(gpu, counter, getattr(gpu, counter) + int(elapsed_s * NANOSECONDS))

    def _value(self, place: Place) -> int:
        index, name = place
        value: int = self._undisturbed.get(place, getattr(self._state.gpu(index), name))
        return value

    def _write(self, place: Place, value: int) -> None:
        index, name = place
        if place in self._amplitudes:
            self._undisturbed[place] = value
            amplitude = self._amplitudes[place]
            value += self._random.randint(-amplitude, amplitude)
        setattr(self._state.gpu(index), name, min(max(value, 0), LARGEST[name]))


def _places(gpus: Iterable[int], values: dict[str, int]) -> Iterable[tuple[Place, int]]:
    return [((gpu, name), value) for gpu in gpus for name, value in values.items()]
