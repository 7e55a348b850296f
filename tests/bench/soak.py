"""`make soak`: does a busy agent stay as small as it was, for hours?

A real agent on a simulated node of eight H100.  A server on each GPU allocates by the replica of
torch's allocator, publishes its tap file and answers as vLLM does; other processes come and go; a
coordinator takes the reports; /metrics is scraped; XIDs, heat, pending row remaps and lost GPUs
come and pass, so that findings raise and clear the whole time.  Agent and NVML child are looked at
from outside.

Rules, each over what follows the warm-up:

* Memory grows when the slope of its private part (RssAnon) is above ``MOST_MIB_AN_HOUR`` with 95 %
  confidence: of a straight line through the means of blocks, since neighbouring looks are alike.
  RSS and PSS are told beside it.
* The warm-up ends when the last buffer is full: rings after five minutes, events of XIDs, and the
  floors of a process's memory, after an hour.  In a run that is too short for that a quarter is
  left out, and memory is told and not judged.
* Descriptors and threads grow when they never again get as few as they were in the first quarter.
* The log may have ``MOST_LOG_BYTES_A_SECOND``.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from figures import Figure, table
from machine import agent_config, coordinator_config, simulated
from processes import children, daemon, pss_mib, started, wait_for

from gpuward.daemon.clock import SystemClock
from gpuward.simulator.kernel_log import ERROR, KernelLog, xid_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpuward.simulator.state import State

CHILD = "gpuward.agent.nvml_child"
LOOK_EVERY_S = 10.0
SCRAPE_EVERY_S = 15.0
TROUBLE_EVERY_S = 20.0
REQUESTS_PER_SECOND = 2
# An hour of what is kept longest, and some for what is late.
WARM_UP_S = 3_900.0
SHORT_WARM_UP_SHARE = 0.25
LEAST_S = 600.0
GOODBYE_S = 5.0
BLOCKS = 20
# Student's t for 95 % and the 18 degrees of freedom of a line through 20 blocks.
T_95 = 2.1
# 12 MiB a day; exporters in the field have been seen to grow by 500.
MOST_MIB_AN_HOUR = 0.5
MOST_LOG_BYTES_A_SECOND = 512.0
KIB_PER_MIB = 1024
# Few, so that each GPU soon has had each: their findings stay for an hour.
XIDS = (31, 79, 95)
PASSING_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Look:
    """One process at one moment."""

    at_s: float
    anonymous_mib: float
    rss_mib: float
    pss_mib: float
    descriptors: int
    threads: int


def main() -> int:
    for_s, began_s = _seconds(), time.monotonic()
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory()))
        state, env = parts.enter_context(simulated(folder))
        ports = [_server(gpu, folder, env, parts) for gpu in range(state.row.gpu_count)]
        _, centre = parts.enter_context(
            daemon("coordinator", coordinator_config(folder), folder / "coordinator")
        )
        config = agent_config(folder, coordinator=centre["grpc"], engines=ports)
        agent, addresses = parts.enter_context(daemon("agent", config, folder / "agent", env))
        log = config.with_suffix(".log")
        world = World(state, KernelLog(folder / "kmsg", SystemClock()), parts)
        # The whole takes no longer than was asked for.
        for_s -= time.monotonic() - began_s + GOODBYE_S
        watch = Watch(agent.pid, log, for_s)
        _run(watch, world, addresses["http"], for_s)
    figures = [*judge(watch.looks, watch.log_bytes, for_s)]
    print(table(figures))
    missed = [figure.name for figure in figures if figure.is_missed]
    if missed:
        print(f"missed: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


class World:
    """What happens to the node: processes that come and go, and troubles that pass."""

    def __init__(self, state: State, kernel_log: KernelLog, parts: ExitStack) -> None:
        self._state = state
        self._kernel_log = kernel_log
        # Repeatable, not secret.
        self._chance = random.Random(0)
        self._turns = 0
        self._passing: list[subprocess.Popen] = []
        self._calm: Callable[[], None] = lambda: None
        parts.callback(self._end)

    def turn(self) -> None:
        """End the last trouble, begin another, let one process go and another come."""
        self._calm()
        index = self._chance.randrange(self._state.row.gpu_count)
        gpu = self._state.gpu(index)
        name, value = self._chance.choice(
            [("lost", 1), ("remapped_rows_pending", 1), ("temperature_celsius", 92)]
        )
        was = getattr(gpu, name)
        self._calm = lambda: setattr(gpu, name, was)
        setattr(gpu, name, value)
        self._report_xid()
        if len(self._passing) > 1:
            self._stop(self._passing.pop(0))
        process = subprocess.Popen(["sleep", "infinity"])
        self._passing.append(process)
        self._state.take(
            self._chance.randrange(self._state.row.gpu_count), process.pid, PASSING_BYTES
        )

    def _report_xid(self) -> None:
        """Each code on each GPU in turn, so that all their findings are open soon."""
        round_, index = divmod(self._turns, self._state.row.gpu_count)
        self._turns += 1
        code = XIDS[round_ % len(XIDS)]
        line = xid_line(self._state.gpu(index), code, pid=None, name="", message=None)
        self._kernel_log.write(line, ERROR)

    def _end(self) -> None:
        for process in self._passing:
            self._stop(process)

    def _stop(self, process: subprocess.Popen) -> None:
        process.kill()
        process.wait()


class Watch:
    """Looks at the agent's processes from outside; keeps what it saw."""

    def __init__(self, pid: int, log: Path, for_s: float) -> None:
        self._pid = pid
        self._log = log
        self._for_s = for_s
        self.looks: dict[str, list[Look]] = {"agent": [], "NVML child": []}
        self.log_bytes: list[int] = []

    def turn(self, at_s: float) -> None:
        """Look once, and say now and then how it goes."""
        self.looks["agent"].append(_look(self._pid, at_s))
        self.looks["NVML child"].append(_look(children(self._pid)[CHILD], at_s))
        self.log_bytes.append(self._log.stat().st_size)
        newest, child = self.looks["agent"][-1], self.looks["NVML child"][-1]
        print(
            f"{at_s:6.0f} of {self._for_s:.0f} s  private {newest.anonymous_mib:.2f} MiB, "
            f"child's {child.anonymous_mib:.2f}  RSS {newest.rss_mib:.2f}  "
            f"descriptors {newest.descriptors}  threads {newest.threads}  "
            f"log {self.log_bytes[-1]} B",
            file=sys.stderr,
            flush=True,
        )


def _run(watch: Watch, world: World, address: str, for_s: float) -> None:
    def scrape(_: float) -> None:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as page:
            page.read()

    def trouble(_: float) -> None:
        world.turn()

    began_s = time.monotonic()
    # What is done, how often, and when next.
    agenda = [
        [watch.turn, min(LOOK_EVERY_S, for_s / 60), 0.0],
        [scrape, min(SCRAPE_EVERY_S, for_s / 10), 0.0],
        [trouble, min(TROUBLE_EVERY_S, for_s / 6), 0.0],
    ]
    while (at_s := time.monotonic() - began_s) < for_s:
        entry = min(agenda, key=lambda each: each[2])
        if at_s < entry[2]:
            time.sleep(entry[2] - at_s)
            continue
        entry[0](at_s)
        entry[2] += entry[1]


def _look(pid: int, at_s: float) -> Look:
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return Look(
        at_s,
        int(fields["RssAnon"].split()[0]) / KIB_PER_MIB,
        int(fields["VmRSS"].split()[0]) / KIB_PER_MIB,
        pss_mib(pid),
        len([*Path(f"/proc/{pid}/fd").iterdir()]),
        int(fields["Threads"]),
    )


def judge(looks: dict[str, list[Look]], log_bytes: Sequence[int], for_s: float) -> Iterator[Figure]:
    """Yield what is to be told; a figure that misses its budget has grown."""
    is_long = for_s >= WARM_UP_S + LEAST_S
    warm_s = WARM_UP_S if is_long else SHORT_WARM_UP_SHARE * for_s
    budget = MOST_MIB_AN_HOUR if is_long else None
    for name, seen in looks.items():
        after = [look for look in seen if look.at_s >= warm_s]
        yield _growth(f"{name}: private memory", after, "anonymous_mib", budget)
        yield _growth(f"{name}: RSS", after, "rss_mib", None)
        yield _growth(f"{name}: PSS", after, "pss_mib", None)
        for what in ("descriptors", "threads"):
            counts = [getattr(look, what) for look in after]
            quarter = max(1, len(counts) // 4)
            yield Figure(
                f"{name}: {what}, fewest of the last quarter",
                min(counts[-quarter:]),
                "",
                min(counts[:quarter]),
                spread=(min(counts), max(counts)),
            )
    took_s = looks["agent"][-1].at_s - looks["agent"][0].at_s
    rate = (log_bytes[-1] - log_bytes[0]) / took_s
    yield Figure("agent: log", rate, "B/s", MOST_LOG_BYTES_A_SECOND)


def _growth(name: str, looks: Sequence[Look], what: str, budget: float | None) -> Figure:
    values = [getattr(look, what) for look in looks]
    low, slope, high = slope_an_hour([look.at_s for look in looks], values)
    return Figure(
        f"{name}: least growth that 95 % leave",
        low,
        "MiB/h",
        budget,
        spread=(low, high),
        ratio=f"slope {slope:+.2f}, {values[0]:.1f} to {values[-1]:.1f} MiB",
    )


def slope_an_hour(times: Sequence[float], values: Sequence[float]) -> tuple[float, float, float]:
    """Return the slope of a line through the means of blocks, between its 95 % bounds; an hour.

    At least 20 values.
    """
    size = len(values) // BLOCKS
    blocks = [slice(place * size, (place + 1) * size) for place in range(BLOCKS)]
    x = [statistics.fmean(times[block]) / 3_600 for block in blocks]
    y = [statistics.fmean(values[block]) for block in blocks]
    slope, intercept = statistics.linear_regression(x, y)
    rest = sum((b - intercept - slope * a) ** 2 for a, b in zip(x, y, strict=True))
    middle = statistics.fmean(x)
    error = (rest / (BLOCKS - 2) / sum((a - middle) ** 2 for a in x)) ** 0.5
    return slope - T_95 * error, slope, slope + T_95 * error


def _server(gpu: int, folder: Path, env: dict[str, str], parts: ExitStack) -> int:
    """Start an inference server on a GPU; returns its port."""
    addresses = folder / f"server-{gpu}.json"
    words = {
        "--gpu": gpu,
        "--model": f"model-{gpu}",
        "--requests-per-second": REQUESTS_PER_SECOND,
        "--healthy-seconds": 1_000_000,
        "--seed": gpu,
        "--tap-directory": folder / "tap",
        "--addresses": addresses,
    }
    argv = [sys.executable, "-m", "gpuward.simulator.workload"]
    argv += [word for pair in words.items() for word in pair]
    process = parts.enter_context(started(argv, folder / f"server-{gpu}.log", env))
    wait_for(addresses.exists, process)
    return int(json.loads(addresses.read_text())["http"].rpartition(":")[2])


def _seconds() -> float:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hours", type=float, default=0.0)
    parser.add_argument("--minutes", type=float, default=0.0)
    options = parser.parse_args()
    return 3_600 * options.hours + 60 * options.minutes or 2 * 3_600.0


if __name__ == "__main__":
    sys.exit(main())
