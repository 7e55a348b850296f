"""Say that the database failed some work: at once, and then once a minute for as long as it does.

Loops try again every few seconds and agents with every report: an hour without a database would
otherwise be thousands of lines that say the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from gpuward.daemon.repeats import Repeats

if TYPE_CHECKING:
    from sqlalchemy.exc import SQLAlchemyError

log = structlog.get_logger()


def reason_of(error: SQLAlchemyError) -> str:
    """Return what the driver says, on one line and without the statement."""
    said = str(getattr(error, "orig", None) or error)
    return said.partition("\n")[0]


@dataclass(slots=True)
class StoreFailures:
    """Those of one kind of work."""

    work: str
    _repeats: Repeats = field(default_factory=Repeats)

    def note(self, error: SQLAlchemyError, now_s: float) -> None:
        """Log ``error``, which came at ``now_s`` of the monotonic clock, unless it repeats."""
        reason = reason_of(error)
        unsaid = self._repeats.to_say((reason,), now_s)
        if unsaid is not None:
            log.warning("store.failed", work=self.work, reason=reason, unsaid=unsaid)
