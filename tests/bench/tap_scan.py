"""What reading all tap files of a busy node costs: 8 processes that each publish 8 GPUs.

The writers are real processes, because a process cannot see its own record lock; they publish when
told, so that all 64 records are new in every scan.  The scan is what the budget was set for: list
the directory, ask for each writer, read and check every record.  A record is unpacked as far as
somebody asks, which nobody does there: "one record" is with what the sampler asks for.  The
sampler's whole turn, which also makes 832 samples of them, is told beside it.  Floor: pread of the
same bytes.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from figures import of_runs
from tap_tick import statistics
from timing import interleaved, once_each, times_of

from gpuward.agent.samplers.tap import TapSampler
from gpuward.agent.samplers.tap_directory import TapDirectory
from gpuward.agent.samplers.tap_lock import lock_holder
from gpuward.agent.samplers.tap_record import unpack_record
from gpuward.agent.samplers.tap_samples import DeviceMemory
from gpuward.daemon.clock import SystemClock
from gpuward.tap import layout
from gpuward.tap.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from figures import Figure
    from timing import Effort

BUDGET_MS = 0.4
RECORD_US = 5.0
LOCK_US = 3.0
PROCESSES = 8
DEVICES = 8
TOTAL_BYTES = 80 << 30
LARGE = 60 << 30


class Writers:
    """Processes with a tap file each, which publish when told."""

    def __init__(self, directory: str, parts: ExitStack) -> None:
        self._processes = []
        for _ in range(PROCESSES):
            process = subprocess.Popen(
                [sys.executable, __file__, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            parts.callback(process.wait)
            parts.callback(process.stdin.close)
            self._processes.append(process)

    def publish(self) -> None:
        """Return when every writer has published once more."""
        for process in self._processes:
            process.stdin.write(b"\n")
            process.stdin.flush()
        for process in self._processes:
            process.stdout.readline()


def measure(effort: Effort) -> Iterator[Figure]:
    taken: dict[str, list[float]] = {"scan": [], "turn": [], "floor": []}
    with ExitStack() as parts:
        folder = parts.enter_context(tempfile.TemporaryDirectory())
        writers = Writers(folder, parts)
        writers.publish()
        readers = _readers(Path(folder), parts)
        for _ in range(effort.times(300)):
            # Each reader finds 64 records that it has not seen.
            writers.publish()
            for name, seconds in once_each(readers).items():
                taken[name].append(seconds)
        single = interleaved(_single(Path(folder), parts), rounds=effort.times(60), times=300)
    scans_ms = [1e3 * seconds for seconds in taken["scan"]]
    above_floor = f"{times_of(taken['floor'], taken['scan']):.1f} x of pread of the same bytes"
    yield of_runs("tap scan 8 x 8, CPU", scans_ms, "ms", budget=BUDGET_MS, ratio=above_floor)
    turns_ms = [1e3 * seconds for seconds in taken["turn"]]
    yield of_runs("tap sampler's whole turn 8 x 8, CPU", turns_ms, "ms")
    for name, budget in {"one record": RECORD_US, "who holds the lock": LOCK_US}.items():
        single_us = [1e6 * seconds for seconds in single[name]]
        yield of_runs(f"{name}, CPU", single_us, "us", budget=budget)


def _readers(directory: Path, parts: ExitStack) -> dict[str, Callable[[], object]]:
    loop = parts.enter_context(asyncio.Runner())
    clock = SystemClock()
    files = TapDirectory(directory)
    sampler = TapSampler(
        directory,
        clock=clock,
        proc_root=Path("/proc"),
        device_memory=lambda _: DeviceMemory(TOTAL_BYTES, TOTAL_BYTES - LARGE),
    )
    parts.callback(sampler.close)

    def scan() -> int:
        files.update(now_s=0.0)
        fresh = 0
        for file in files.files.values():
            lock_holder(file.fd)
            fresh += len(file.read())
        return fresh

    def turn() -> None:
        loop.run(sampler.sample(clock.mono_s()))

    def floor() -> None:
        for file in files.files.values():
            for device in range(DEVICES):
                offset = file.header.device_offset(device)
                os.pread(file.fd, layout.SLOTS * layout.SLOT_SIZE, offset)

    if scan() != PROCESSES * DEVICES:
        raise RuntimeError(f"not every tap file was read: {files.refused}")
    return {"scan": scan, "turn": turn, "floor": floor}


def _single(directory: Path, parts: ExitStack) -> dict[str, Callable[[], object]]:
    """Return the parts of a scan: read, check and unpack one record; ask for one writer."""
    files = TapDirectory(directory)
    parts.callback(files.close)
    files.update(now_s=0.0)
    file = next(iter(files.files.values()))
    offset = file.header.device_offset(0)

    def one_record() -> object:
        record = unpack_record(os.pread(file.fd, layout.SLOTS * layout.SLOT_SIZE, offset))
        # What the sampler asks of each.
        return record.all_pools, record.totals, record.oom

    return {"one record": one_record, "who holds the lock": lambda: lock_holder(file.fd)}


def _write(directory: str) -> None:
    """Publish every device once for each line on standard input."""
    stats = statistics(LARGE)
    # One GPU, one number in every process.
    gpus = [(bytes([index]) * 16, index) for index in range(1, DEVICES + 1)]
    publisher = Publisher(directory, gpus)
    for _ in sys.stdin:
        for device in range(DEVICES):
            publisher.publish(device, stats)
        print(flush=True)
    publisher.close()


if __name__ == "__main__":
    _write(sys.argv[1])
