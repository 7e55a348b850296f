"""Contain the failures of what may fail: samplers, detectors, probes.

The only ``except Exception`` of the agent.  One part that breaks, on a driver nobody has seen or
on a hostile input, must not silence the others: it is logged with its traceback once, shown as
unhealthy, and tried again next time.  Anything else that raises is a bug in the plumbing and ends
the process, so that the supervisor starts a clean one.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from gpuward.agent.model import ComponentHealth, Result

if TYPE_CHECKING:
    from collections.abc import Iterator

log = structlog.get_logger()


class Components:
    """Health of every part, by name: ``sampler.nvml``, ``detector.xid``."""

    def __init__(self) -> None:
        self._health: dict[str, ComponentHealth] = {}
        self._said: dict[str, ComponentHealth | None] = {}
        # Failures by component, ever.
        self.failures: Counter[str] = Counter()

    @property
    def health(self) -> tuple[ComponentHealth, ...]:
        """Return the latest health of each part, by name."""
        return tuple(self._health[name] for name in sorted(self._health))

    @contextmanager
    def contain(self, component: str) -> Iterator[None]:
        """Run the block; an exception in it becomes the component's bad health."""
        try:
            yield
        except TimeoutError as error:
            self._failed(component, f"timed out: {error}" if str(error) else "timed out", error)
        except Exception as error:  # noqa: BLE001 - the one place, see above
            self._failed(component, f"{type(error).__name__}: {error}", error)
        else:
            self._worked(component)

    def note(self, component: str, health: ComponentHealth | None) -> None:
        """Keep what a working part says of itself: that it cannot see, say; ``None``: nothing."""
        self._said[component] = health

    def _failed(self, component: str, reason: str, error: Exception) -> None:
        self.failures[component] += 1
        before = self._health.get(component)
        # A timeout repeats with the same reason; an error's text may carry a number that differs.
        if before is None or before.result is not Result.FAIL:
            log.error("component.failed", component=component, reason=reason, exc_info=error)
        reason = " ".join(reason.split())[:500]
        self._health[component] = ComponentHealth(component, Result.FAIL, reason)

    def _worked(self, component: str) -> None:
        before = self._health.get(component)
        if before is not None and before.result is Result.FAIL:
            log.info("component.recovered", component=component)
        said = self._said.get(component)
        result, reason = (Result.OK, "") if said is None else (said.result, said.reason)
        # Nearly always it works as it did.
        if before is None or before.result is not result or before.reason != reason:
            self._health[component] = ComponentHealth(component, result, reason)
