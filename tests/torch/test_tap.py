"""The tap in an unmodified torch on the simulated runtime: real statistics, real errors."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from gpuward.agent.detectors.memory_fragmentation import detect
from gpuward.agent.model import Result
from gpuward.agent.samplers.tap_record import unpack_record
from gpuward.cli.tap import write_tap
from gpuward.tap.layout import unpack_header
from gpuward.tap.map_layout import Request, pack_request, unpack_map

pytestmark = [pytest.mark.torch, pytest.mark.simulator]

MIB = 1 << 20
GIB = 1 << 30
GPU = "GPU-00000000-aaaa-bbbb-cccc-ddddeeeeffff"


def figure(window, signal):
    """Return the newest value of the only process's series on the first GPU."""
    keys = [key for key in window.keys(signal) if key.gpu == GPU]
    return window.latest(keys[0]).value if keys else None


def test_torch_shows_its_allocator(node, tap, watcher):
    """What the agent reads from outside is what torch says inside; the file goes with it."""
    server = node.serve(**tap)
    server.ask("malloc", "a", 100 * MIB)
    server.ask("malloc", "b", 300 * MIB)
    server.ask("free", "a")
    server.ask("run_python", 2.5)
    window = watcher.until(lambda window: figure(window, "process_memory_reserved_bytes"))
    stats = server.ask("stats")

    for family in ("reserved", "active", "allocated", "requested"):
        inside = stats[f"{family}_bytes"]["all"]["current"]
        assert figure(window, f"process_memory_{family}_bytes") == inside
    assert figure(window, "process_memory_releasable_bytes") == 100 * MIB
    assert [(p.pid, p.gpus) for p in window.processes] == [(server.process.pid, (GPU,))]
    assert server.leave() == 0
    assert list(Path(tap["GPUWARD_TAP_DIR"]).iterdir()) == []


def test_a_busy_program_publishes_from_its_main_thread(node, tap):
    """Within three seconds of the first use of CUDA."""
    server = node.serve(**tap)
    server.ask("malloc", "a", 100 * MIB)
    server.ask("run_python", 2.0)

    (file,) = Path(tap["GPUWARD_TAP_DIR"]).iterdir()
    raw = file.read_bytes()
    records = [record for at in (4096, 5120) if (record := unpack_record(raw, at))]
    assert max(record.all_pools.reserved_bytes for record in records) == 100 * MIB
    assert all(record.tick_cost_ns < 10**9 for record in records)


def test_fragmentation_and_then_a_real_out_of_memory_error(node, tap, watcher):
    """Two blocks in each segment, one of them freed: half the memory is lost, and a GiB fails."""
    server = node.serve(**tap)
    server.ask("malloc", "probe", MIB)
    server.ask("run_python", 0.2)
    full = 0
    while "error" not in str(server.ask("malloc", f"{full}", 9 * MIB)):
        full += 1
    for number in range(0, full, 2):
        server.ask("free", f"{number}")
    assert server.ask("malloc", "large", GIB)["error"] == "OutOfMemoryError"
    server.ask("run_python", 1.5)
    window = watcher.until(lambda window: list(detect(window)))

    (finding,) = detect(window)
    stats = server.ask("stats")
    stranded = stats["inactive_split_bytes"]["all"]["current"]
    facts = {fact.name: fact.value for fact in finding.evidence}
    assert (finding.kind, finding.result) == ("process.memory.fragmentation", Result.FAIL)
    assert (finding.subject.pid, finding.subject.gpu) == (server.process.pid, GPU)
    assert facts["process_memory_stranded_bytes"] == stranded > 2 * GIB
    assert facts["process_memory_headroom_bytes"] == 64 * MIB
    (event,) = window.events("process.memory.oom", 0.0)
    assert event.values["requested_bytes"] == GIB
    assert "in pieces" in event.text


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        pytest.param("", 0, id="default"),
        pytest.param("expandable_segments:True", 1, id="expandable segments"),
        pytest.param("backend:cudaMallocAsync", 4, id="the driver's allocator keeps no statistics"),
    ],
)
def test_configurations_of_the_allocator(node, tap, settings, flags):
    server = node.serve(**tap, PYTORCH_ALLOC_CONF=settings)
    server.ask("malloc", "a", 100 * MIB)
    server.ask("run_python", 2.0)

    (file,) = Path(tap["GPUWARD_TAP_DIR"]).iterdir()
    raw = file.read_bytes()
    records = [record for at in (4096, 5120) if (record := unpack_record(raw, at))]
    # 2: with a summary of the blocks, which expandable segments need.
    assert {record.flags & ~2 for record in records} == {flags}
    assert server.leave() == 0


def walked(raw):
    """Return the newest record if it has a summary of the blocks."""
    records = [record for at in (4096, 5120) if (record := unpack_record(raw, at))]
    newest = max(records, key=lambda record: record.seq, default=None)
    return newest if newest is not None and newest.flags & 2 else None


def run_until(server, found):
    """Let the program run Python until there is what ``found`` looks for; return that."""
    for _ in range(100):
        server.ask("run_python", 0.1)
        if (result := found()) is not None:
            return result
    raise AssertionError("not seen within ten seconds")


def fragment(server):
    for index in range(40):
        server.ask("malloc", str(index), (index * 7919 % 97 + 1) * MIB // 3)
    for index in range(0, 40, 2):
        server.ask("free", str(index))


def released_by_empty_cache(server):
    reserved = server.ask("stats")["reserved_bytes"]["all"]["current"]
    server.ask("empty_cache")
    return reserved - server.ask("stats")["reserved_bytes"]["all"]["current"]


def test_a_map_shows_each_block_that_torch_has(node, tap):
    server = node.serve(**tap)
    fragment(server)
    tap_file = run_until(server, lambda: next(Path(tap["GPUWARD_TAP_DIR"]).glob("*.tap"), None))
    nonce = os.urandom(16)
    request = Request(nonce, time.time_ns() + 10**11)
    tap_file.with_suffix(".req").write_bytes(pack_request(request))
    record = run_until(server, lambda: walked(tap_file.read_bytes()))
    found = unpack_map(tap_file.with_suffix(".map").read_bytes())
    segments = server.ask("snapshot")

    assert (nonce, 0) == (found.nonce, found.outcome)
    assert [(s["address"], s["total_size"]) for s in segments] == [s[:2] for s in found.segments]
    assert [b["size"] for s in segments for b in s["blocks"]] == [
        block.size for segment in found.segments for block in segment.blocks
    ]
    assert released_by_empty_cache(server) == record.summary.releasable_bytes > 0
    assert server.leave() == 0


def test_expandable_segments_are_walked_as_counters_do_not_say_what_is_releasable(node, tap):
    """The walk does, to the byte."""
    server = node.serve(**tap, PYTORCH_ALLOC_CONF="expandable_segments:True")
    fragment(server)
    tap_file = run_until(server, lambda: next(Path(tap["GPUWARD_TAP_DIR"]).glob("*.tap"), None))
    record = run_until(server, lambda: walked(tap_file.read_bytes()))

    assert record.flags == 1 | 2
    assert released_by_empty_cache(server) == record.summary.releasable_bytes > 0
    assert server.leave() == 0


def test_a_folder_made_for_mounting_is_all_that_torch_needs(node, tmp_path):
    """What ``gpuward tap install`` writes, and PYTHONPATH."""
    write_tap(tmp_path / "mounted")
    directory = tmp_path / "tap"
    directory.mkdir()
    server = node.serve(PYTHONPATH=str(tmp_path / "mounted"), GPUWARD_TAP_DIR=str(directory))
    server.ask("malloc", "a", 100 * MIB)
    tap_file = run_until(server, lambda: next(directory.glob("*.tap"), None))

    assert unpack_header(tap_file.read_bytes()).torch_version.startswith("2.")
    assert server.leave() == 0
