"""Words that come again and again are said once a minute, with how many were not said."""

from __future__ import annotations

from dataclasses import dataclass, field

SAID_AGAIN_AFTER_S = 60.0
# Of different words; more are not told apart.
MAX_WORDS = 100


@dataclass(slots=True)
class Repeats:
    """Decides which of the lines that others cause at will go to the log."""

    _said: dict[tuple[str, ...], float] = field(default_factory=dict)
    _unsaid: int = 0

    def to_say(self, words: tuple[str, ...], now_s: float) -> int | None:
        """Return how many lines were left out since the last one, or ``None`` to leave it out."""
        if now_s - self._said.get(words, -SAID_AGAIN_AFTER_S) < SAID_AGAIN_AFTER_S:
            self._unsaid += 1
            return None
        if len(self._said) >= MAX_WORDS:
            self._said.clear()
        self._said[words] = now_s
        unsaid, self._unsaid = self._unsaid, 0
        return unsaid
