"""`make bench-null`: how often the agent warns on nodes on which nothing is wrong.

The judge alone, on a virtual clock: healthy busy nodes of all profiles, a sample of every series
each second, and every detector.  100 GPU-days may give no page and one ticket at most; more is a
detector that cries wolf, and exit status 1.  `--hours 2` lives two hours of each profile.

Beside the counts stands what they are of: GPU-days, restarts, crashes, reloads, and the step of the
judge.  Samplers speak every second; the judge is asked every five, so that the whole takes minutes:
a condition that lasts for less than five seconds may be missed, one that a detector sees over a
window of 10 s or more is not.  `--step 1` asks it every second.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from null_node import DAY, PROFILES, Node

from gpuward.agent.component import Components
from gpuward.agent.judge import Judge
from gpuward.agent.kinds import class_of
from gpuward.agent.model import Batch, FindingClass
from gpuward.agent.samplers.memory_accounts import accounts
from gpuward.agent.samplers.memory_floors import floors
from gpuward.agent.samplers.saturation import loads

if TYPE_CHECKING:
    from gpuward.agent.model import OpenFinding

HOUR = 3_600
GPUS = {"h100-sxm-x8": 8, "l40s-x4": 4, "h100-mig-x1": 1, "rtx4090-x1": 1}
# Shares of the exposure: most GPUs stand eight to a node.
SHARES = {"h100-sxm-x8": 0.6, "l40s-x4": 0.24, "h100-mig-x1": 0.08, "rtx4090-x1": 0.08}
MOST_PAGES = 0
MOST_TICKETS = 1
LOUD = (FindingClass.STORE, FindingClass.TICKET, FindingClass.PAGE)
TOLD_EVERY_S = 10.0
# A node lives so long before the next one: its seed chooses services, cards and their noise.
NODE_DAYS = 0.5
WORKED_OUT_EVERY_S = 5
MINUTE_S = 60


class Watchdog:
    """A supervisor that does not listen."""

    def ready(self, status: str) -> None: ...
    def watchdog(self) -> None: ...
    def stopping(self) -> None: ...


@dataclass(slots=True)
class Lived:
    """What came of one node: how long it lived, what happened to it, and what was found."""

    kind: str
    gpu_days: float = 0.0
    restarts: int = 0
    crashes: int = 0
    reloads: int = 0
    # By kind of finding and how loud it became, findings that were raised.
    found: Counter[tuple[str, str]] = field(default_factory=Counter)
    # The first of each that is not stored: when, and its words.
    examples: dict[str, str] = field(default_factory=dict)


class Clock:
    """Shows the second that it was told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def mono_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return self.now_s

    async def sleep_until(self, mono_s: float) -> None:
        self.now_s = max(self.now_s, mono_s)


def live(kind: str, seed: int, hours: float, step_s: int) -> Lived:
    """Let one node live for ``hours`` and judge it every ``step_s``."""
    # Each raise would be a line.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    node, clock, components = Node(kind, seed), Clock(), Components()
    judge = Judge(
        node="n", boot_id="b", instance="i", clock=clock, components=components, notifier=Watchdog()
    )
    lived, loudest = Lived(kind), dict[str, tuple[str, FindingClass]]()
    last = int(hours * HOUR)
    for second in range(1, last + 1):
        clock.now_s = float(second)
        judge.take("node", node.second(second))
        while not judge.events.empty():
            judge.events.get_nowait()
        if second % WORKED_OUT_EVERY_S == 0:
            _work_out(judge, second)
        if second % step_s == 0:
            judge.tick()
            _note(lived, loudest, judge.snapshot.open_findings, second)
    if components.failures.total():
        raise RuntimeError(f"{kind}: a detector failed: {judge.snapshot.components}")
    lived.found.update((name, loud.value) for name, loud in loudest.values())
    lived.gpu_days = len(node.cards) * last / DAY
    lived.restarts = sum(service.restarts for service in node.services)
    lived.crashes, lived.reloads = node.crashes, node.reloads
    return lived


def _work_out(judge: Judge, second: int) -> None:
    """Say what the samplers say that only look at what others said."""
    window = judge.readings.window(float(second))
    judge.take("memory_accounts", Batch(samples=tuple(accounts(window))))
    judge.take("saturation", Batch(samples=tuple(loads(window))))
    if second % MINUTE_S == 0:
        judge.take("memory_floors", Batch(samples=tuple(floors(window))))


def _note(
    lived: Lived,
    loudest: dict[str, tuple[str, FindingClass]],
    opened: tuple[OpenFinding, ...],
    second: int,
) -> None:
    """Keep how loud each finding became; a page that begins as a ticket is a page."""
    for each in opened:
        loud = FindingClass.STORE if each.suppressed else class_of(each.finding)
        _, before = loudest.get(each.finding_id, ("", loud))
        loudest[each.finding_id] = (each.finding.kind, max(before, loud, key=LOUD.index))
        if loud is not FindingClass.STORE:
            words = f"{lived.kind} at {second} s: {each.finding.summary}"
            lived.examples.setdefault(each.finding.kind, words)


def plan(gpu_days: float, hours: float | None) -> list[tuple[str, int, float]]:
    """Return profile, seed and hours of each node to live: days at a time, or ``hours`` of each."""
    if hours is not None:
        return [(kind, 0, hours) for kind in PROFILES]
    jobs = []
    for kind in PROFILES:
        left_days, seed = SHARES[kind] * gpu_days / GPUS[kind], 1
        while left_days > 1e-9:
            days = min(NODE_DAYS, left_days)
            jobs.append((kind, seed, 24 * days))
            left_days, seed = left_days - days, seed + 1
    return jobs


def run(jobs: list[tuple[str, int, float]], step_s: int) -> list[Lived]:
    """Live them all, one process a core; how far it is is told on stderr."""
    began_s = told_s = time.monotonic()
    done: list[Lived] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        waiting = [pool.submit(live, kind, seed, hours, step_s) for kind, seed, hours in jobs]
        for future in as_completed(waiting):
            done.append(future.result())
            if time.monotonic() - told_s > TOLD_EVERY_S or len(done) == len(jobs):
                told_s = time.monotonic()
                print(
                    f"{len(done)} of {len(jobs)} nodes,"
                    f" {sum(each.gpu_days for each in done):.1f} GPU-days,"
                    f" {told_s - began_s:.0f} s",
                    file=sys.stderr,
                    flush=True,
                )
    return done


def report(done: list[Lived], step_s: int) -> bool:
    """Print exposure and counts; return whether the agent was quiet enough."""
    print(f"A sample of every series each second; the judge was asked every {step_s} s.")
    print(f"{'profile':14}{'nodes':>7}{'GPU-days':>10}{'restarts':>10}{'crashes':>9}{'reloads':>9}")
    for kind in PROFILES:
        print(_exposure(kind, [each for each in done if each.kind == kind]))
    print(_exposure("all", done))
    found: Counter[tuple[str, str]] = Counter()
    examples: dict[str, str] = {}
    for each in done:
        found.update(each.found)
        examples = {**each.examples, **examples}
    print(f"\n{'kind':34}{'store':>7}{'ticket':>8}{'page':>6}")
    for kind in sorted({kind for kind, _ in found}):
        counts = [found[kind, loud.value] for loud in LOUD]
        print(f"{kind:34}{counts[0]:7}{counts[1]:8}{counts[2]:6}  {examples.get(kind, '')}")
    pages = sum(n for (_, loud), n in found.items() if loud == FindingClass.PAGE.value)
    tickets = sum(n for (_, loud), n in found.items() if loud == FindingClass.TICKET.value)
    quiet = pages <= MOST_PAGES and tickets <= MOST_TICKETS
    print(
        f"\n{pages} pages (at most {MOST_PAGES}), {tickets} tickets (at most {MOST_TICKETS}):"
        f" {'kept' if quiet else 'MISSED'}"
    )
    return quiet


def _exposure(name: str, done: list[Lived]) -> str:
    days = sum(each.gpu_days for each in done)
    figures = [sum(getattr(each, what) for each in done) for what in ("restarts", "crashes")]
    reloads = sum(each.reloads for each in done)
    return f"{name:14}{len(done):7}{days:10.1f}{figures[0]:10}{figures[1]:9}{reloads:9}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gpu-days", type=float, default=100.0, help="exposure in all")
    parser.add_argument("--hours", type=float, help="instead: hours of one node of each profile")
    parser.add_argument("--step", type=int, default=5, help="seconds between two judgements")
    options = parser.parse_args()
    done = run(plan(options.gpu_days, options.hours), options.step)
    return 0 if report(done, options.step) else 1


if __name__ == "__main__":
    sys.exit(main())
