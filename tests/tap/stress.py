"""Publish as fast as possible while others read and writers are killed: count what is not whole.

    python tests/tap/stress.py 1000000

Each record is made of one number, which also is in its sequence number, so that a reader can tell a
mixture of two publications from one.  Up to ten writers share the publications; all are killed by
SIGKILL, every other one in the middle of its work.  Exits with 1 when a reader accepted an
inconsistent record, or found neither slot whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from gpuward.agent.samplers.tap_record import unpack_record
from gpuward.tap.layout import Summary, unpack_header, unpack_ring_entry
from gpuward.tap.publisher import Publisher, SnapshotSummary

READERS = 2
MOST_WRITERS = 10
LEAST_EACH = 2500
POOLS = ("all", "small_pool", "large_pool")
FAMILIES = (
    *("allocation", "segment", "active", "inactive_split"),
    *("allocated_bytes", "reserved_bytes", "active_bytes", "inactive_split_bytes"),
    *("requested_bytes",),
)
COUNTERS = ("num_alloc_retries", "num_ooms", "num_device_alloc", "num_device_free")


def write(directory: str, publications: int) -> None:
    """Publish the numbers from 1 on; then say so, and wait to be killed."""
    publisher = Publisher(directory, [(bytes(range(16)), 0)])
    figures = dict.fromkeys(("current", "peak", "allocated", "freed"), 0)
    stats: dict[str, object] = {name: dict.fromkeys(POOLS, figures) for name in FAMILIES}
    for number in range(1, publications + 1):
        figures.update(current=number, peak=number + 1, allocated=number + 2)
        stats.update(dict.fromkeys(COUNTERS, number))
        summary = Summary(*[number] * 10) if number % 7 == 0 else None
        publisher.publish(0, stats, summary and SnapshotSummary(summary))
        if number == publications // 2:
            print("half", flush=True)
    print("done", flush=True)
    sys.stdin.read()


def is_consistent(record) -> bool:
    number = record.seq // 2
    pools = (record.all_pools, record.small_pool, record.large_pool)
    counted = (record.totals.alloc_retries, record.totals.ooms, record.totals.device_allocs)
    return (
        all(set(pool) == {number} for pool in pools)
        and set(record.peak) == {number + 1}
        and set(counted) == {number}
        and record.totals.allocations == number + 2
        and set(record.summary) == {number // 7 * 7}
    )


class Reader:
    """Reads files of a directory by ``pread``, as the agent does, and counts what it found."""

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)
        kinds = ("accepted", "torn", "unreadable", "inconsistent", "backwards")
        self.found: Counter[str] = Counter(dict.fromkeys(kinds, 0))
        self.newest: dict[str, int] = {}

    def read_all(self) -> None:
        for path in self.directory.glob("*.tap"):
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(path, os.O_RDONLY)
                try:
                    self._read(path.name, fd)
                finally:
                    os.close(fd)

    def _read(self, name: str, fd: int) -> None:
        header = unpack_header(os.pread(fd, 4096, 0))
        for _ in range(50):
            raw = os.pread(fd, header.device_size, header.device_offset(0))
            records = [r for r in map(unpack_record, (raw, raw[1024:])) if r is not None]
            self.found["torn"] += 2 - len(records)
            if not records:
                # Before the second publication there is one slot at most.
                self.found["unreadable"] += self.newest.get(name, 0) > 2
                continue
            self._judge(name, max(records, key=lambda record: record.seq), raw)

    def _judge(self, name: str, record, raw: bytes) -> None:
        self.found["accepted"] += 1
        self.found["inconsistent"] += not is_consistent(record)
        self.found["backwards"] += record.seq < self.newest.get(name, 0)
        self.newest[name] = record.seq
        entry = unpack_ring_entry(raw, 2048 + record.seq // 2 % 128 * 64)
        if entry is not None:
            same = {entry.reserved_bytes, entry.active_bytes, entry.alloc_retries, entry.ooms}
            self.found["inconsistent"] += len(same) != 1


def read(directory: str) -> None:
    reader = Reader(directory)
    while not (Path(directory) / "STOP").exists():
        reader.read_all()
    reader.read_all()
    print(json.dumps(reader.found))


def start(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, __file__, *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **pipes)


def run(directory: str, publications: int) -> Counter[str]:
    readers = [start("read", directory) for _ in range(READERS)]
    writers = min(MOST_WRITERS, publications // LEAST_EACH)
    each = publications // writers
    for number in range(writers):
        with start("write", directory, each * (2 if number % 2 else 1)) as writer:
            # Every other writer is killed in the middle of its work, which was twice as long.
            writer.stdout.readline()
            if number % 2 == 0:
                writer.stdout.readline()
            writer.kill()
    (Path(directory) / "STOP").touch()
    found = Counter({"publications": each * writers})
    for reader in readers:
        said, _ = reader.communicate()
        found.update(json.loads(said))
    return found


def main() -> int:
    if sys.argv[1] == "write":
        write(sys.argv[2], int(sys.argv[3]))
        return 0
    if sys.argv[1] == "read":
        read(sys.argv[2])
        return 0
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        found = run(directory, int(sys.argv[1]))
    print(json.dumps({**found, "seconds": round(time.monotonic() - began_s, 1)}))
    return int(any(found[bad] for bad in ("inconsistent", "unreadable", "backwards")))


if __name__ == "__main__":
    sys.exit(main())
