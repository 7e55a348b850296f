"""Structured logging for a service: JSON lines on stderr with the priority that journald reads.

An event is one past-tense dotted name with fields; see STYLE in CONTRIBUTING.md.  journald takes
the level from the ``<N>`` prefix (sd-daemon(3)); on a terminal people get readable lines instead.
What a library says to the standard ``logging`` (uvicorn, of each request that is none) comes out in
the same form, and not more often than a client may make it speak.
"""

from __future__ import annotations

import linecache
import logging
import sys
import threading
import time

import structlog

from gpuward.daemon.repeats import Repeats

PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
# ``linecache`` is not made for threads of which one clears it.
_formatting = threading.Lock()


def configure(*, level: str = "info") -> None:
    """Send every structlog event at ``level`` or above to stderr."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _format_exception,
            *_renderers(to_terminal=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.root.handlers = [_Libraries(logging.WARNING)]


class _Libraries(logging.Handler):
    """Says what libraries say as events of ours."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._repeats = Repeats()

    def emit(self, record: logging.LogRecord) -> None:
        what = record.getMessage()
        unsaid = self._repeats.to_say((record.name, what), time.monotonic())
        if unsaid is not None:
            structlog.get_logger().log(
                record.levelno,
                "library.spoke",
                library=record.name,
                what=what,
                unsaid=unsaid,
                exc_info=record.exc_info,
            )


def _format_exception(
    logger: object, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Write the traceback; of the sources that it shows nothing is kept, else whole files are."""
    with _formatting:
        event = structlog.processors.format_exc_info(logger, method, event)
        if "exception" in event:
            linecache.clearcache()
    return event


def _renderers(*, to_terminal: bool) -> list[structlog.typing.Processor]:
    if to_terminal:
        return [structlog.dev.ConsoleRenderer(pad_event_to=28)]
    return [structlog.processors.JSONRenderer(), _prefix_priority]


def _prefix_priority(_: object, method: str, event: structlog.typing.EventDict) -> str:
    return f"<{PRIORITY.get(method, 6)}>{event}"
