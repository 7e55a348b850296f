"""Structured logging for a service: JSON lines on stderr with the priority that journald reads.

An event is one past-tense dotted name with fields; see STYLE in CONTRIBUTING.md.  journald takes
the level from the ``<N>`` prefix (sd-daemon(3)); on a terminal people get readable lines instead.
"""

from __future__ import annotations

import logging
import sys

import structlog

PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def configure(*, level: str = "info") -> None:
    """Send every structlog event at ``level`` or above to stderr."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *_renderers(to_terminal=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )


def _renderers(*, to_terminal: bool) -> list[structlog.typing.Processor]:
    if to_terminal:
        return [structlog.dev.ConsoleRenderer(pad_event_to=28)]
    return [structlog.processors.JSONRenderer(), _prefix_priority]


def _prefix_priority(_: object, method: str, event: structlog.typing.EventDict) -> str:
    return f"<{PRIORITY.get(method, 6)}>{event}"
