"""Keep the time of maintenance: by a person's word, or because the driver itself went away.

A person's is kept in the state folder, in wall time: an upgrade of the driver may restart the agent
and reboot the node.  One that begins because the driver was unloaded is over as soon as the driver
is back, and after ten minutes in any case: by then it is not a reload any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import structlog

from gpuward.agent.background_file import BackgroundFile
from gpuward.agent.maintenance import Maintenance

if TYPE_CHECKING:
    from pathlib import Path

    from gpuward.daemon.clock import Clock

log = structlog.get_logger()

MAINTENANCE_FILE = "maintenance.json"
RELEASE_AT_MOST_S = 86_400.0
RELOAD_AT_MOST_S = 600.0


class Kept(msgspec.Struct, frozen=True):
    """What the file holds, seconds since 1970."""

    since_wall_s: float
    until_wall_s: float
    reason: str


class MaintenanceKeeper:
    """Knows whether the node is in maintenance; a person's word goes before the driver's."""

    def __init__(self, path: Path | None, clock: Clock) -> None:
        """``path``: where a person's is kept; ``None``: it is forgotten with the process."""
        self._file = None if path is None else BackgroundFile(path)
        self._clock = clock
        self._release = None if path is None else self._read(path)
        self._reload: Maintenance | None = None

    def now(self, now_s: float) -> Maintenance | None:
        """Return the maintenance under way, if any."""
        if self._release is not None and now_s >= self._release.until_s:
            self.end_release()
        if self._reload is not None and now_s >= self._reload.until_s:
            self.reload_is_over()
        return self._release or self._reload

    def is_released(self, now_s: float) -> bool:
        """Return whether nothing of the driver may be held open."""
        maintenance = self.now(now_s)
        return maintenance is not None and maintenance.is_release

    def begin_release(self, for_s: float, reason: str) -> Maintenance:
        """Begin a person's maintenance, or give it another end; at most a day from now."""
        now_s = self._clock.mono_s()
        since_s = now_s if self._release is None else self._release.since_s
        until_s = now_s + min(for_s, RELEASE_AT_MOST_S)
        self._release = Maintenance(since_s, until_s, reason, is_release=True)
        self._write(self._release)
        log.warning("maintenance.began", cause="release", for_s=round(until_s - now_s), why=reason)
        return self._release

    def end_release(self) -> None:
        """End a person's maintenance; nothing happens when there is none."""
        if self._release is not None:
            log.info("maintenance.ended", cause="release")
        self._release = None
        if self._file is not None:
            self._file.save_and_wait(None)

    def reload_began(self, now_s: float, reason: str) -> None:
        """Note that the driver leaves; again before all of it is back, it is the same time."""
        if self._reload is None:
            self._reload = Maintenance(now_s, now_s + RELOAD_AT_MOST_S, reason)
            log.warning("maintenance.began", cause="driver", why=reason)

    def reload_is_over(self) -> None:
        """Note that the driver is back, and with it every GPU."""
        if self._reload is not None:
            log.info("maintenance.ended", cause="driver")
        self._reload = None

    def _read(self, path: Path) -> Maintenance | None:
        """Return what an earlier process kept, unless it is over."""
        try:
            if not path.exists():
                return None
            kept = msgspec.json.decode(path.read_bytes(), type=Kept)
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("maintenance.unreadable", path=str(path), why=str(error))
            return None
        offset_s = self._clock.wall_s() - self._clock.mono_s()
        # However the clock was set meanwhile.
        left_s = min(kept.until_wall_s - self._clock.wall_s(), RELEASE_AT_MOST_S)
        if left_s <= 0:
            return None
        until_s = self._clock.mono_s() + left_s
        return Maintenance(kept.since_wall_s - offset_s, until_s, kept.reason, is_release=True)

    def _write(self, release: Maintenance) -> None:
        if self._file is None:
            return
        offset_s = self._clock.wall_s() - self._clock.mono_s()
        kept = Kept(release.since_s + offset_s, release.until_s + offset_s, release.reason)
        # In force also where it cannot be kept; a restart of the agent would end it then.
        self._file.save_and_wait(msgspec.json.encode(kept))
