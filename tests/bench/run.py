"""`make bench`: measure what docs/budgets.md promises; exit status 1 when a budget is missed.

`--only NAME` (more than once) measures a part, `--quick` shows in a minute that every benchmark
works; its figures are of too few rounds to be quoted.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from typing import TYPE_CHECKING

import agent_footprint
import cause_cost
import detection_tick
import engine_page
import ingest
import judge_tick
import metrics_page
import page_leaving
import peer_exporter
import start_up
import tap_pause
import tap_scan
import tap_tick
import tap_torch
from figures import table
from timing import Effort

from gpuward.daemon import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from figures import Figure

BENCHMARKS: dict[str, Callable[[Effort], Iterator[Figure]]] = {
    "tap-tick": tap_tick.measure,
    "tap-torch": tap_torch.measure,
    "tap-scan": tap_scan.measure,
    "tap-pause": tap_pause.measure,
    "engine-page": engine_page.measure,
    "judge": judge_tick.measure,
    "detection": detection_tick.measure,
    "cause": cause_cost.measure,
    "metrics-page": metrics_page.measure,
    "start-up": start_up.measure,
    "ingest": ingest.measure,
    "page": page_leaving.measure,
    "agent": agent_footprint.measure,
    "peer-exporter": peer_exporter.measure,
}

GIVE_UP_S = 15 * 60


def main() -> int:
    options = _options()
    # What our own code says while it is measured is not what is asked for here.
    log.configure(level="critical")
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(GIVE_UP_S)
    names = options.only or list(BENCHMARKS)
    figures: list[Figure] = []
    for place, name in enumerate(names, 1):
        began_s = time.monotonic()
        print(f"[{place}/{len(names)}] {name}", file=sys.stderr, flush=True)
        figures += BENCHMARKS[name](Effort(quick=options.quick))
        print(f"    {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)
    print(table(figures))
    missed = [figure.name for figure in figures if figure.is_missed]
    if missed:
        print(f"missed: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def _give_up(*_: object) -> None:
    # What was started ends on the way out, which a kill would not see to.
    raise TimeoutError(f"not measured within {GIVE_UP_S // 60} minutes")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", action="append", choices=BENCHMARKS, metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="few rounds: figures not to be quoted")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
