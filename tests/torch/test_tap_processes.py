"""Every kind of process that an engine makes is seen, soon, and under its name on the host.

Nothing but PYTHONPATH and the tap's directory is set; the programs know nothing of the tap.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gpuward.tap.layout import unpack_header, unpack_ring_entry

pytestmark = [pytest.mark.torch, pytest.mark.simulator]

MIB = 1 << 20
# The agent looks once a second, so that much of each deadline is not the tap's: 2 s after CUDA was
# initialised its file is seen, 3 s after its counters.
FILE_WITHIN_NS = 1_000_000_000
COUNTERS_WITHIN_NS = 2_000_000_000
PID_NAMESPACE = ("unshare", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child")


def first_publication(file):
    """The oldest entry of the history of the first device."""
    raw = file.read_bytes()
    header = unpack_header(raw)
    return header, unpack_ring_entry(raw, header.ring_offset(0, 2))


def start_ticks(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19])


def pid_namespace(pid):
    return Path(f"/proc/{pid}/ns/pid").stat().st_ino


def descendants(pid):
    """Pids of the host, the process itself first."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in descendants(int(child)))]


@pytest.mark.parametrize("within", [(), PID_NAMESPACE], ids=["", "in a PID namespace"])
@pytest.mark.parametrize("kind", ["here", "fork", "spawn", "forkserver"])
def test_a_process_is_seen_under_its_name_on_the_host(node, tap, watcher, kind, within):
    child = node.start("worker.py", kind, "run_python", within=within, **tap)
    said = json.loads(child.stdout.readline())
    (process,) = watcher.until(lambda window: window.processes).processes
    (file,) = Path(tap["GPUWARD_TAP_DIR"]).glob("*.tap")
    watcher.until(lambda window: any(process.gpus for process in window.processes))
    header, first = first_publication(file)

    assert process.pid in descendants(child.pid)
    assert process.start_ticks == start_ticks(process.pid) == header.start_ticks
    assert (header.ns_pid, header.pidns_inode) == (said["pid"], pid_namespace(process.pid))
    assert (header.ns_pid == process.pid) is (within == ())
    assert (header.pidns_inode == pid_namespace(os.getpid())) is (within == ())
    assert -FILE_WITHIN_NS < header.created_realtime_ns - said["real_ns"] < FILE_WITHIN_NS
    assert 0 < first.mono_ns - said["mono_ns"] < COUNTERS_WITHIN_NS
    assert first.reserved_bytes == 64 * MIB


def test_a_main_thread_that_waits_for_the_one_that_works(node, tap, watcher):
    """Its counters come as soon: the tap's own thread asks for them."""
    child = node.start("worker.py", "here", "wait_for_a_thread", **tap)
    said = json.loads(child.stdout.readline())
    watcher.until(lambda window: any(process.gpus for process in window.processes))
    (file,) = Path(tap["GPUWARD_TAP_DIR"]).glob("*.tap")
    _, first = first_publication(file)

    assert 0 < first.mono_ns - said["mono_ns"] < COUNTERS_WITHIN_NS
    assert (first.reserved_bytes, first.flags) == (64 * MIB, 0)


def test_a_main_thread_that_sleeps_in_c_is_idle_until_it_runs_python(node, tap, watcher):
    """It may be inside the allocator, so that nobody asks; the agent is told so meanwhile."""
    child = node.start("worker.py", "here", "sleep_in_c", **tap)
    said = json.loads(child.stdout.readline())
    watcher.until(lambda window: any(process.gpus for process in window.processes))
    (file,) = Path(tap["GPUWARD_TAP_DIR"]).glob("*.tap")
    header, first = first_publication(file)
    raw = file.read_bytes()
    entries = [unpack_ring_entry(raw, header.ring_offset(0, 2 * n)) for n in range(1, 9)]
    counted = next(entry for entry in entries if entry.reserved_bytes)

    assert 0 < first.mono_ns - said["mono_ns"] < COUNTERS_WITHIN_NS
    assert (first.reserved_bytes, first.flags) == (0, 64 | 4)
    assert 4_900_000_000 < counted.mono_ns - said["mono_ns"] < 7_000_000_000
    assert (counted.reserved_bytes, counted.flags) == (64 * MIB, 0)
