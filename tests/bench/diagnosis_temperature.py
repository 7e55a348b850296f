"""Fit the temperature of ``gpuward.agent.diagnosis.calibration``: on even seeds only.

Lives every single fault of `make bench-diagnosis` at even seeds, looks at what is most probable at
each judgement from the onset to three minutes after the first verdict, whether it was named or not,
and prints the log loss of its probability for each temperature.  Replicas count alike, however
often they were looked at.  A quarter of an hour; run it by hand when weights have changed:
`.venv/bin/python tests/bench/diagnosis_temperature.py`.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnosis import plan
from diagnosis_life import live

from gpuward.agent.detectors.latency_cause import verdict_of
from gpuward.agent.diagnosis import calibration
from gpuward.agent.diagnosis.case import cases
from gpuward.agent.diagnosis.verdict import is_open, share

if TYPE_CHECKING:
    from diagnosis_job import Job
    from diagnosis_life import Life

    from gpuward.agent.diagnosis.verdict import Standing

EVEN = range(0, 10, 2)
SETTLE_S = 180.0
TEMPERATURES = [tenth / 10 for tenth in range(5, 21)]


@dataclass(frozen=True, slots=True)
class Look:
    """What was possible of a replica at one judgement, and what was most probable."""

    at_s: float
    endpoint: str
    ranked: tuple[Standing, ...]
    name: str


def looks_of(job: Job) -> list[list[tuple[Look, bool]]]:
    """Return the looks at each replica, and whether the best of each was right."""
    looks: list[Look] = []

    def look(life: Life) -> None:
        window = life.judge.readings.window(life.clock.now_s)
        for case in cases(window):
            verdict = verdict_of(case) if is_open(case) else None
            if verdict is not None and verdict.best is not None:
                name = verdict.best.name
                looks.append(Look(window.now_s, case.endpoint, verdict.ranked, name))

    lived = live(
        *(job.names, job.severity, job.seed), fluid=job.is_fluid, settle_s=SETTLE_S, look=look
    )
    replicas: dict[str, list[tuple[Look, bool]]] = {}
    for each in looks:
        if each.at_s >= lived.onset_s and lived.truths:
            placed = lived.victim in ("", each.endpoint)
            is_right = placed and each.name in lived.truths
            replicas.setdefault(each.endpoint, []).append((each, is_right))
    return list(replicas.values())


def log_loss(replicas: list[list[tuple[Look, bool]]], temperature: float) -> float:
    """Return the mean over replicas of the mean over their looks."""
    return sum(
        -math.log(_claimed(look, temperature) if is_right else 1 - _claimed(look, temperature))
        / len(looks)
        for looks in replicas
        for look, is_right in looks
    ) / len(replicas)


def _claimed(look: Look, temperature: float) -> float:
    claimed = share(look.ranked, look.name, temperature)
    return max(calibration.LEAST, min(calibration.MOST, claimed))


def main() -> None:
    jobs = [job for job in plan(EVEN, quick=False, only=()) if job.part == "single"]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        replicas = [looks for found in pool.map(looks_of, jobs) for looks in found]
    print(f"{sum(map(len, replicas))} looks at {len(replicas)} replicas")
    losses = {each: log_loss(replicas, each) for each in TEMPERATURES}
    for temperature, loss in losses.items():
        print(f"{temperature:4.1f}  {loss:.4f}{'  <' if loss == min(losses.values()) else ''}")


if __name__ == "__main__":
    main()
