"""Tell the story on the terminal: one line an event, its time, who it is about, what happened."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from gpuward.daemon.clock import Clock

WHO_WIDTH = 11


class Tone(StrEnum):
    """How a line is meant; the value is its colour as a terminal's SGR code."""

    PLAIN = "0"
    QUIET = "2"
    GOOD = "32"
    WARNING = "33"
    ALARM = "31"
    HEADING = "1"


class Narrator:
    """Writes lines with the seconds since it was made; colours only where ``colour`` is true."""

    def __init__(self, clock: Clock, out: TextIO, *, colour: bool) -> None:
        self._clock = clock
        self._began_s = clock.mono_s()
        self._out = out
        self._colour = colour

    def tell(self, who: str, what: str, tone: Tone = Tone.PLAIN) -> None:
        elapsed_s = self._clock.mono_s() - self._began_s
        self._line(f"{elapsed_s:6.1f} s  {who:<{WHO_WIDTH}} {what}", tone)

    def heading(self, text: str) -> None:
        self._line(f"\n{text}", Tone.HEADING)

    def block(self, text: str) -> None:
        """Show a document, set off from the story."""
        for line in text.splitlines():
            self._line(f"    {line}", Tone.QUIET)

    def _line(self, text: str, tone: Tone) -> None:
        if self._colour and tone is not Tone.PLAIN:
            text = f"\x1b[{tone.value}m{text}\x1b[0m"
        self._out.write(f"{text}\n")
        self._out.flush()
