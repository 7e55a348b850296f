"""What asyncio caught where nobody waits for it: one log line each, not a traceback each.

Its own handler prints tracebacks past our log, and a listener that finds no free file descriptor
has it called a thousand times a second (asyncio's accept loop goes on after EMFILE): that filled
the disk that the log is on.  So the same words are said once a minute, with how often they came.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    import asyncio

log = structlog.get_logger()

SAID_AGAIN_AFTER_S = 60.0
# Of different words; more are not told apart.
MAX_WORDS = 100


@dataclass(slots=True)
class LoopErrors:
    """An exception handler for ``loop.set_exception_handler``."""

    _said: dict[tuple[str, str], float] = field(default_factory=dict)
    _unsaid: int = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        reason = f"{type(error).__name__}: {error}" if error is not None else ""
        words = (context["message"], reason)
        now_s = loop.time()
        if now_s - self._said.get(words, -SAID_AGAIN_AFTER_S) < SAID_AGAIN_AFTER_S:
            self._unsaid += 1
            return
        if len(self._said) >= MAX_WORDS:
            self._said.clear()
        self._said[words] = now_s
        # What it is about has no other trace than this one, unless the system refused.
        trace = {} if isinstance(error, OSError) else {"exc_info": error}
        log.error("loop.error", what=words[0], reason=reason, unsaid=self._unsaid, **trace)
        self._unsaid = 0
