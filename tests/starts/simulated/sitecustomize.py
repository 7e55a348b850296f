"""Let the agent's rules and schedule of probes run faster, so that a test need not wait minutes."""

from __future__ import annotations

import os

SPEED = float(os.environ.get("GPUWARD_STARTS_SPEED", "1"))

if SPEED != 1.0:
    from functools import partial

    from gpuward.agent import probe_rules, probe_schedule

    known = probe_rules.Limits()
    limits = probe_rules.Limits(young_s=known.young_s / SPEED, growing_s=known.growing_s / SPEED)
    probe_rules.hindrance = partial(probe_rules.hindrance, limits=limits)
    for probe in probe_schedule.PERIODS_S:
        probe_schedule.PERIODS_S[probe] /= SPEED
    # It takes the rules as they are when it is imported.
    from gpuward.agent.samplers.probe import ProbeSampler

    ProbeSampler.period_s /= SPEED
