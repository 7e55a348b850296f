"""Is a slow engine noticed in time, and a healthy one left alone?  Exit status 1 on a miss.

On the engine simulator and on a second engine of another law: tokens 15 % slower in 60 s in the
median, 5 % slower in five minutes, a drift of 1 % a minute before 6 %; and one false alarm in
thirty GPU-days at most, over at least ninety.  Times are from the onset until the finding is
raised, the 15 s that it must last included.  Beside them: Lorden's bound, below which nobody comes
at that rate of false alarms, and what alerts on 95th percentiles of five minutes give, of the time
between tokens and of whole requests, their limits 5 % above the highest of the healthy days.
`--null` measures the false alarms alone.  `--quick` shows in a minute that it works; its figures
are not to be quoted.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from detection_life import live, spread_of
from detection_null import Exposure, drawn, lived
from detection_replicas import HEALTHY, Replica, Roofline, Simulated, Slowness

from gpuward.agent.detection.alarm_limit import BUDGET_POINTS
from gpuward.agent.detectors.latency_inter_token import KIND
from gpuward.agent.replica_watch import TURN_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from detection_life import Life

    Make = Callable[[int, Slowness], Replica]

ENGINES: dict[str, Make] = {"simulator": Simulated, "roofline": Roofline}
FAULTS = (
    Slowness("+15 %", by=1.15),
    Slowness("+5 %", by=1.05),
    Slowness("+1 %/min", a_minute=0.01),
)
# Seconds from the onset, in the median; for a drift of 1 % a minute 6 % are six minutes.
BUDGET_S = {"+15 %": 60.0, "+5 %": 300.0, "+1 %/min": 360.0}
FALSE_ALARM_DAYS = 30.0
LEAST_EXPOSURE_DAYS = 90.0
# Minutes lived before the onset, at most and at least: ten of them are for learning.
ONSET_S = (1_500, 3_300)
GIVEN_UP_AFTER_S = 900
PERCENTILE_MARGIN = 1.05
MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is lived; bootstrap days are drawn from the simulator's."""

    seeds: int = 24
    simulator_days: float = 2.0
    roofline_days: float = 24.0
    drawn_days: float = 90.0
    first_seed: int = 1_000

    def lived_days(self, engine: str) -> float:
        return self.simulator_days if engine == "simulator" else self.roofline_days


QUICK = Plan(seeds=3, simulator_days=0.05, roofline_days=0.25, drawn_days=2.0)


@dataclass(frozen=True, slots=True)
class Delays:
    """Of one fault on one engine, in seconds from the onset; infinite: given up."""

    engine: str
    fault: Slowness
    seconds: tuple[float, ...]
    # From the onset as it was told to the one that was.
    onset_errors: tuple[float, ...]
    by_percentile: tuple[float, ...]
    lorden_s: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def is_kept(self) -> bool:
        return self.median <= BUDGET_S[self.fault.name]


def delays(
    engine: str, fault: Slowness, plan: Plan, limits: dict[str, float], lorden_s: float
) -> Delays:
    """Inject ``fault`` into replicas of ``engine``, and note when it was raised."""
    seconds, errors, slow = [], [], []
    for seed in range(plan.first_seed, plan.first_seed + plan.seeds):
        low, high = ONSET_S
        onset_s = float(low + (seed * 7_919) % (high - low))
        life = live(
            ENGINES[engine](seed, replace(fault, onset_s=onset_s)),
            int(onset_s) + GIVEN_UP_AFTER_S,
            until_kind="" if limits else KIND.name,
            after_s=onset_s,
        )
        found = [r for r in life.raised if r.kind == KIND.name and r.at_s >= onset_s]
        seconds.append(found[0].at_s - onset_s if found else math.inf)
        errors += [found[0].since_s - onset_s] if found else []
        slow.append(_by_percentile(life, limits, onset_s))
    return Delays(engine, fault, tuple(seconds), tuple(errors), tuple(slow), lorden_s)


def _by_percentile(life: Life, limits: dict[str, float], onset_s: float) -> float:
    """Return when the first alert came; one that was up before is no news."""
    passed = [math.inf]
    for name, limit in limits.items():
        above = [at_s for at_s, value in life.percentiles.get(name, ()) if value > limit]
        if above and above[0] >= onset_s:
            passed.append(above[0] - onset_s)
    return min(passed)


def percentile_limits(lives: list[Life]) -> dict[str, float]:
    """Return what a careful person would set: a little above the highest of the healthy days."""
    names = {name for life in lives for name in life.percentiles}
    return {
        name: PERCENTILE_MARGIN * max(v for life in lives for _, v in life.percentiles[name])
        for name in names
    }


def lorden_s(shift_ratio: float, lives: list[Life]) -> float:
    """Return the mean delay that nothing beats: ln(ARL) by the information in a point.

    Residuals that hang together hold less of it: by (1 - r) / (1 + r).
    """
    spread, correlation = spread_of([point for life in lives for point in life.points])
    information = (shift_ratio / spread) ** 2 / 2 * (1 - correlation) / (1 + correlation)
    return TURN_S * max(1.0, math.log(BUDGET_POINTS) / information)


def healthy(engine: str, plan: Plan) -> tuple[list[Exposure], list[Life]]:
    """Live the healthy days of ``engine``; of the simulator's, draw those that take too long."""
    exposure, lives = lived(
        f"{engine}, lived", lambda seed: ENGINES[engine](seed, HEALTHY), plan.lived_days(engine)
    )
    _told(exposure.name)
    exposures = [exposure]
    if engine == "simulator":
        points = [life.points for life in lives]
        exposures.append(drawn("simulator, drawn", points, plan.drawn_days, seed=1))
        _told("drawn")
    return exposures, lives


def run_null(plan: Plan) -> bool:
    """Measure the false alarms alone, print, and return whether they are few enough."""
    exposures = [each for engine in ENGINES for each in healthy(engine, plan)[0]]
    return _report_null(plan, exposures)


def run(plan: Plan) -> bool:
    """Measure, print, and return whether all budgets are kept."""
    exposures: list[Exposure] = []
    found: list[Delays] = []
    for engine in ENGINES:
        of_engine, lives = healthy(engine, plan)
        exposures += of_engine
        limits = percentile_limits(lives)
        for fault in FAULTS:
            bound_s = lorden_s(fault.by - 1.0, lives) if fault.by > 1.0 else math.nan
            found.append(delays(engine, fault, plan, limits, bound_s))
            _told(f"{engine} {fault.name}")
        print(_residuals(engine, lives))
    _report_delays(plan, found)
    is_quiet = _report_null(plan, exposures)
    return is_quiet and all(each.is_kept for each in found)


def _residuals(engine: str, lives: list[Life]) -> str:
    spread, correlation = spread_of([point for life in lives for point in life.points])
    count = sum(len(life.points) for life in lives)
    return (
        f"{engine}: residuals of {count} points of {TURN_S:.0f} s, spread {spread:.2%},"
        f" correlation at one step {correlation:.2f}"
    )


def _report_delays(plan: Plan, found: list[Delays]) -> None:
    print(
        f"\n{'engine':11}{'fault':10}{'median':>8}{'worst':>8}{'missed':>8}{'onset':>8}"
        f"{'bound':>8}{'P95':>18}  budget"
    )
    for each in found:
        print(_row(each, plan))


def _report_null(plan: Plan, exposures: list[Exposure]) -> bool:
    """Print exposures and alarms; return whether these are few, and those enough to say so."""
    print(f"\n{'healthy':22}{'GPU-days':>10}{'false alarms':>14}{'other tickets':>15}")
    for exposure in exposures:
        print(
            f"{exposure.name:22}{exposure.gpu_days:10.2f}{exposure.alarms:14}"
            f"{exposure.others:15}  {exposure.example}"
        )
    print(
        "drawn: blocks of half an hour of the simulator's lived days, end to end (moving-block\n"
        "bootstrap); what those days did not contain, these cannot show"
    )
    days = sum(exposure.gpu_days for exposure in exposures)
    alarms = sum(exposure.alarms for exposure in exposures)
    is_quiet = alarms * FALSE_ALARM_DAYS <= days
    is_enough = days >= LEAST_EXPOSURE_DAYS or plan is QUICK
    print(
        f"{alarms} false alarms in {days:.1f} GPU-days (at most one in {FALSE_ALARM_DAYS:.0f}):"
        f" {'kept' if is_quiet and is_enough else 'MISSED'}"
    )
    return is_quiet and is_enough


def _row(each: Delays, plan: Plan) -> str:
    missed = sum(math.isinf(s) for s in each.seconds)
    seen = [s for s in each.by_percentile if math.isfinite(s)]
    percentile = f"{statistics.median(seen):.0f} s in {len(seen)}/{plan.seeds}" if seen else "never"
    if each.engine != "simulator":
        percentile = "no buckets"
    error = statistics.median(each.onset_errors) if each.onset_errors else math.nan
    budget_s = BUDGET_S[each.fault.name]
    reached = ""
    if each.fault.a_minute:
        reached = f" (+{each.median / MINUTE_S * each.fault.a_minute:.1%})"
    # Lorden's bound is one for a step.
    bound = "-" if math.isnan(each.lorden_s) else f"{each.lorden_s:.0f} s"
    return (
        f"{each.engine:11}{each.fault.name:10}{each.median:6.0f} s{max(each.seconds):6.0f} s"
        f"{missed:8}{error:+6.0f} s{bound:>8}{percentile:>18}"
        f"  <= {budget_s:.0f} s{reached}: {'kept' if each.is_kept else 'MISSED'}"
    )


def _told(what: str) -> None:
    print(f"{time.process_time():6.0f} s: {what}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="too little to be quoted, in a minute")
    parser.add_argument("--null", action="store_true", help="false alarms alone")
    options = parser.parse_args()
    measure = run_null if options.null else run
    return 0 if measure(QUICK if options.quick else Plan()) else 1


if __name__ == "__main__":
    sys.exit(main())
