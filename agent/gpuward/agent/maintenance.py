"""A time in which the driver of a node is being changed on purpose, and what follows from that.

Trouble with hardware that is seen in it is expected: it is kept as evidence and nobody is woken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gpuward.agent.model import CauseDomain

if TYPE_CHECKING:
    from gpuward.agent.model import Finding

# The finding that tells of it, and its key: there is one of a node.
KIND_NAME = "node.maintenance"
DEDUP_KEY = f"{KIND_NAME}||||"
HARDWARE = frozenset({CauseDomain.GPU, CauseDomain.DRIVER})


@dataclass(frozen=True, slots=True)
class Maintenance:
    """From ``since_s`` until ``until_s``, monotonic."""

    since_s: float
    until_s: float
    reason: str
    # A person asked for it: the agent holds nothing of the driver meanwhile.
    is_release: bool = False


def marked(finding: Finding, domain: CauseDomain, maintenance: Maintenance | None) -> Finding:
    """Return ``finding`` marked when its domain is hardware and ``maintenance`` is under way.

    The mark is of what was seen: trouble that outlasts the maintenance is told once it is seen
    again, and what only takes its time to clear is not.
    """
    if maintenance is None or domain not in HARDWARE:
        return finding
    return replace(finding, in_maintenance=True, causes=(*finding.causes, DEDUP_KEY))
