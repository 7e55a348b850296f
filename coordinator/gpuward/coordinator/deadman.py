"""Decide which nodes have been silent for too long.

Silence is not health, and a partition is not a GPU fault: it is an incident of its own kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.coordinator.model import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

# Four and a half reports of 10 s: one lost report and a slow reconnect are not silence.
OVERDUE_AFTER_S = 45.0
# From this share of silent agents on, the centre is blind (research: severity table, visibility).
BLIND_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class NodeLife:
    """When a node was last heard, and until when it said that it would be away."""

    name: str
    last_seen_s: float
    drain_until_s: float | None = None


def overdue(nodes: Iterable[NodeLife], *, listening_since_s: float, now_s: float) -> frozenset[str]:
    """Return the names of nodes that should have been heard and were not.

    ``listening_since_s``: a coordinator that was down itself gives every node its time again.
    """
    return frozenset(
        node.name
        for node in nodes
        if now_s - max(node.last_seen_s, listening_since_s) > OVERDUE_AFTER_S
        and (node.drain_until_s is None or now_s >= node.drain_until_s)
    )


def severity(silent: int, known: int) -> Severity:
    """Return how bad it is that ``silent`` of ``known`` agents (>= 1) are silent."""
    return Severity.SEV3 if silent / known >= BLIND_SHARE else Severity.SEV4
