"""Follow the driver through being unloaded, replaced and loaded again.

A reload is normal: somebody upgrades the driver, or resets a GPU.  What the agent must not do is be
in the way (a handle held open keeps the module from being unloaded), come back too early, or call
the reload a fault.  ``/proc/driver/nvidia/version`` comes and goes with the module and can be read
without a call to the driver.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.model import Event

if TYPE_CHECKING:
    from pathlib import Path

    from gpuward.agent.maintenance_keeper import MaintenanceKeeper

RELOADED = "driver.reloaded"
# A GPU can be taken from the driver and given back without the module being unloaded: then no file
# says that it is over.
STAY_AWAY_S = 30.0
# DRIVER_NOT_LOADED and LIB_RM_VERSION_MISMATCH: somebody is at work.
BEING_CHANGED = frozenset({9, 18})
VERSION = re.compile(r"\b\d{3,4}\.\d{1,4}(?:\.\d{1,4})?\b")


@dataclass(slots=True)
class _Leave:
    """The driver asked us to leave at ``since_s``, when its files said ``version``."""

    since_s: float
    version: str
    was_unloaded: bool = False


class DriverLife:
    """Counts the driver's generations, and says when a child may ask it."""

    def __init__(self, files: Path, maintenance: MaintenanceKeeper) -> None:
        """``files``: ``/proc/driver/nvidia``."""
        self._files = files
        self._maintenance = maintenance
        self._version = ""
        self._is_up = False
        self._leave: _Leave | None = None
        self.generation = 0

    def may_start(self, now_s: float) -> bool:
        """Return whether a child may open the driver now."""
        if self._maintenance.is_released(now_s):
            return False
        if self._leave is not None and self._is_back(self._leave, now_s):
            self._leave = None
        return self._leave is None

    def answered(self, version: str, now_s: float) -> Event | None:
        """Note that a child has met a driver; returns what happened if it is another."""
        if self._is_up and version == self._version:
            return None
        before, self._version, self._is_up = self._version, version, True
        self.generation += 1
        if not before:
            return None
        return Event(
            RELOADED,
            now_s,
            identity=f"{self.generation}:{now_s:.3f}",
            text=f"The driver was reloaded: version {before} before, {version} now.",
        )

    def is_gone(self, code: int, reason: str, now_s: float) -> None:
        """Note that NVML has no driver any more, or another one than its library's."""
        if self._is_up and code in BEING_CHANGED:
            self._maintenance.reload_began(now_s, reason)
        self._is_up = False

    def is_leaving(self, reason: str, now_s: float) -> None:
        """Note that the driver is about to leave its GPUs."""
        self._maintenance.reload_began(now_s, reason)
        self._is_up = False
        self._leave = _Leave(now_s, self._loaded_version())

    def is_released(self) -> None:
        """Note that nobody here asks the driver any more; whether it was reloaded, who knows."""
        self._leave = None

    def is_whole(self) -> None:
        """Note that every GPU answers."""
        self._maintenance.reload_is_over()

    def _is_back(self, leave: _Leave, now_s: float) -> bool:
        version = self._loaded_version()
        if not version:
            leave.was_unloaded = True
        has_come = bool(version) and (leave.was_unloaded or version != leave.version)
        return has_come or now_s - leave.since_s >= STAY_AWAY_S

    def _loaded_version(self) -> str:
        """Return the version of the module that is loaded; empty for none."""
        try:
            text = (self._files / "version").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        found = VERSION.search(text)
        return found[0] if found else ""
