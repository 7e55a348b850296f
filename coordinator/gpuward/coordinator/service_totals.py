"""What users of a service have had from one instance of it, as counters that only grow."""

from __future__ import annotations

import msgspec


class ServiceTotals(msgspec.Struct, frozen=True, gc=False):
    """Cumulative counters of one instance of a service; fields as in report.proto.

    A struct, because each report of each node makes one, writes it and reads it back.
    """

    service: str
    instance: str
    node: str
    started_at_s: float
    observed_at_s: float
    received_at_s: float
    requests: int = 0
    failed: int = 0
    timed_out: int = 0
    over_objective: int = 0
    tokens: int = 0
    ready: bool = True
    waiting: int = 0
    running: int = 0
    # What it runs, and what its service ran on its node before, empty where nobody says.
    model: str = ""
    version: str = ""
    previous_model: str = ""
    previous_version: str = ""
    # Since when it runs what it runs; 0 where it is not known to have run anything else.
    changed_at_s: float = 0.0
