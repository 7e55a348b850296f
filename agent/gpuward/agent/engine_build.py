"""What a service runs, a model and an engine's version, and since when it runs another.  Pure.

Somebody who finds users hurt asks first what was changed.  Pods come back under other addresses, so
what is remembered is of the service on this node, not of a replica.  While a roll-out is under way
old and new run side by side: that is one change, at the start of the first that was new.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Build:
    """A model and an engine's version, each empty where nobody says."""

    model: str = ""
    version: str = ""

    def differs(self, other: Build) -> bool:
        """Return whether it is another; what only one of them tells is no difference."""
        return _differ(self.model, other.model) or _differ(self.version, other.version)

    def filled(self, other: Build) -> Build:
        """Return this, and of ``other`` what this does not tell."""
        return Build(self.model or other.model, self.version or other.version)


class Running(msgspec.Struct, frozen=True):
    """What a service runs; ``changed_wall_s``: since when, 0 when it has never run another."""

    now: Build
    before: Build = Build()
    changed_wall_s: float = 0.0


def follow(known: Running | None, live: Iterable[tuple[Build, float]]) -> Running | None:
    """Return what is running after a look at ``live``: the builds of replicas, with their starts.

    What ran before is no change as long as what runs now does as well; alone it is one, back.
    """
    builds = sorted(live, key=lambda one: one[1])
    if known is None:
        return Running(builds[-1][0]) if builds else None
    same = [build for build, _ in builds if not build.differs(known.now)]
    others = [one for one in builds if one[0].differs(known.now)]
    if same:
        known = msgspec.structs.replace(known, now=known.now.filled(same[-1]))
        is_first = known.before == Build()
        others = [one for one in others if is_first or one[0].differs(known.before)]
    if not others:
        return known
    build, started_wall_s = others[-1]
    return Running(build, known.now, started_wall_s)


def _differ(one: str, other: str) -> bool:
    return bool(one and other) and one != other
