"""What an instance of a service has counted; severity is computed from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceTotals:
    """Cumulative traffic of one instance of a service; fields as in report.proto."""

    service: str
    instance: str
    started_wall_s: float
    observed_wall_s: float
    requests: int
    failed: int
    timed_out: int
    over_objective: int
    tokens: int
    ready: bool
    waiting: int
    running: int
    # What it runs, and what the service ran before, empty where nobody says; since when.
    model: str = ""
    version: str = ""
    previous_model: str = ""
    previous_version: str = ""
    changed_wall_s: float = 0.0
