"""What asyncio caught where nobody waits for it: one log line each, not a traceback each.

Its own handler prints tracebacks past our log, and a listener that finds no free file descriptor
has it called a thousand times a second (asyncio's accept loop goes on after EMFILE): that filled
the disk that the log is on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from gpuward.daemon.repeats import Repeats

if TYPE_CHECKING:
    import asyncio

log = structlog.get_logger()


@dataclass(slots=True)
class LoopErrors:
    """An exception handler for ``loop.set_exception_handler``."""

    _repeats: Repeats = field(default_factory=Repeats)

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        what, reason = context["message"], f"{type(error).__name__}: {error}" if error else ""
        unsaid = self._repeats.to_say((what, reason), loop.time())
        if unsaid is None:
            return
        # What it is about has no other trace than this one, unless the system refused.
        trace = {} if isinstance(error, OSError) else {"exc_info": error}
        log.error("loop.error", what=what, reason=reason, unsaid=unsaid, **trace)
