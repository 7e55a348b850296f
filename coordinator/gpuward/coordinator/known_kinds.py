"""Every kind of finding that this version knows, and how loud an agent says it is.

The agents' kinds are data, ``known_kinds.json``: the coordinator imports nothing of theirs.  A
newer agent may send others; those that are open count as known too.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import msgspec

from gpuward.coordinator.correlate import NODE_OVERDUE
from gpuward.coordinator.model import FindingClass


@cache
def default_classes() -> dict[str, FindingClass]:
    """Return the class of each kind, by name."""
    text = resources.files("gpuward.coordinator").joinpath("known_kinds.json").read_bytes()
    of_agents = msgspec.json.decode(text, type=dict[str, FindingClass])
    return {**of_agents, NODE_OVERDUE: FindingClass.TICKET}
