"""What the benchmark of diagnosis prints: cases, scenarios, and figures with their bounds."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnosis_job import QUIET_GPUS
from diagnosis_plan import SEVERITIES
from diagnosis_scenarios import FAULTS
from diagnosis_scores import (
    calibration_error,
    delays,
    has_both,
    is_unsafe,
    lower_bound,
    score,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from diagnosis_job import Job
    from diagnosis_life import Lived, Verdict

LEAST_FIRST, LEAST_FIRST_HARD, LEAST_BOTH = 0.90, 0.95, 0.75
FIRST_AMONG = ("first", "among")


def show_cases(done: list[tuple[Job, Lived]]) -> None:
    """Print each case, for somebody who looks for what went wrong."""
    for job, lived in done:
        if job.hours:
            print(f"{lived.name} {lived.seed}: {lived.false or 'nothing said'}")
            continue
        said = "; ".join(
            f"{one.endpoint} {one.verdict} {one.upstream} ({one.confidence:.2f},"
            f" then {one.runner_up or '-'})"
            for one in lived.verdicts
        )
        delay = "-" if lived.delay_s is None else f"{lived.delay_s:.0f} s"
        print(
            f"{lived.name} {SEVERITIES[lived.severity]} {lived.seed}, {delay}:"
            f" {said or 'nothing said'} [{', '.join(lived.others)}]"
        )


def by_scenario(done: list[tuple[Job, Lived]]) -> None:
    print(f"{'scenario':24}{'cases':>6}{'AC@1':>7}{'AC@3':>7}{'wrong':>7}{'delay s':>9}  instead")
    for scenario in FAULTS:
        mine = [one for job, one in done if job.part == "single" and one.name == scenario.name]
        if not mine:
            continue
        scores = [score(one) for one in mine]
        first, among = (statistics.mean(getattr(it, of) for it in scores) for of in FIRST_AMONG)
        late = f"{statistics.median(delays(mine)):.0f}" if delays(mine) else "-"
        mark = "!" if scenario.is_hard else " "
        print(
            f"{mark}{scenario.name:23}{len(mine):6}{first:7.2f}{among:7.2f}"
            f"{sum(it.was_wrong for it in scores):7}{late:>9}  {_instead(mine)}"
        )


def _instead(mine: list[Lived]) -> str:
    counts: Counter[str] = Counter()
    for lived in mine:
        counts.update(_mistake(lived, one) for one in lived.verdicts)
        counts["nothing said"] += not lived.verdicts
    del counts[""]
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()) if count)


def _mistake(lived: Lived, verdict: Verdict) -> str:
    if verdict.verdict not in lived.truths:
        return verdict.verdict
    if verdict.upstream != lived.upstream:
        return verdict.upstream
    return "of the other replica" if lived.victim not in ("", verdict.endpoint) else ""


@dataclass(frozen=True, slots=True)
class Bound:
    """One figure with what it must be; ``detail`` says what it is of."""

    name: str
    value: float
    least: float | None = None
    most: float | None = None
    detail: str = ""

    @property
    def is_kept(self) -> bool:
        low = self.least is None or self.value >= self.least
        return low and (self.most is None or self.value <= self.most)

    def __str__(self) -> str:
        wanted = ""
        if self.least is not None:
            wanted = f"at least {self.least:g}"
        elif self.most is not None:
            wanted = f"at most {self.most:g}"
        verdict = "" if not wanted else ("kept" if self.is_kept else "MISSED")
        return f"{self.name:38}{self.value:9.3f}  {wanted:16}{verdict:8}{self.detail}"


def bounds(done: list[tuple[Job, Lived]]) -> list[Bound]:
    """Return what the specification asks of these cases."""
    single = [one for job, one in done if job.part == "single"]
    hard = {scenario.name for scenario in FAULTS if scenario.is_hard}
    double = [one for job, one in done if job.part == "double"]
    quiet = [one for job, one in done if job.part in ("healthy", "quiet")]
    hardest = [one for one in single if one.name in hard]
    shares = (
        ("AC@1, single faults", single, lambda it: score(it).first, LEAST_FIRST),
        ("AC@1, where hardware says so", hardest, lambda it: score(it).first, LEAST_FIRST_HARD),
        ("AC@3 (or among the runners-up)", single, lambda it: score(it).among, None),
        ("wrong verdicts", single, lambda it: float(score(it).was_wrong), None),
        ("both of a double in the top two", double, lambda it: float(has_both(it)), LEAST_BOTH),
    )
    found = [_share(*share) for share in shares if share[1]]
    hours = QUIET_GPUS * sum(one.lived_s for one in quiet) / 3_600
    exposure = f"in {hours:.1f} GPU-hours of {len(quiet)} nodes"
    found.append(Bound("verdicts on quiet nodes", _count(quiet), most=0, detail=exposure))
    silent = sum(one.abstained for one in quiet)
    found.append(Bound('  nodes with "undetermined"', silent))
    before = [one for one in (*single, *double) if one.false]
    said = f"of {len(single) + len(double)} cases, two minutes each"
    found.append(Bound("verdicts before the onset", len(before), most=0, detail=said))
    unsafe = sum(is_unsafe(one) for one in (*single, *double))
    found.append(Bound("restarts advised in vain", unsafe, most=0))
    error, of = calibration_error(single)
    found.append(Bound("calibration error (ECE)", error, detail=f"of {of} verdicts; goal 0.05"))
    late = delays(single)
    if len(late) > 1:
        quartiles = statistics.quantiles(late, n=20)
        detail = f"p95 {quartiles[-1]:.0f} s"
        found.append(
            Bound("delay after the onset, median, s", statistics.median(late), detail=detail)
        )
    return found


def _share(
    name: str, cases: list[Lived], of: Callable[[Lived], float], least: float | None
) -> Bound:
    value = statistics.mean(of(one) for one in cases)
    detail = f"of {len(cases)}; 95 % sure of {lower_bound(value, len(cases)):.2f}"
    return Bound(name, value, least=least, detail=detail)


def _count(cases: list[Lived]) -> float:
    return float(sum(bool(one.false) for one in cases))


def report(name: str, done: list[tuple[Job, Lived]]) -> bool:
    """Print the figures of these seeds; returns whether all bounds are kept."""
    print(f"\n== {name} ==")
    by_scenario(done)
    found = bounds(done)
    print()
    for bound in found:
        print(bound)
    for job, lived in done:
        if lived.false and job.part in ("healthy", "quiet"):
            print(f"  {lived.name}, seed {lived.seed}: {lived.false[0]}")
    return all(bound.is_kept for bound in found)
