"""From tap files to samples, processes and out-of-memory events, with writers that live and die."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gpuward.agent.gpu_names import GpuNames
from gpuward.agent.mig_device import MigDevice
from gpuward.agent.model import Gpu, Process, Result, SeriesKey
from gpuward.agent.samplers.tap import TapSampler
from gpuward.agent.samplers.tap_samples import DeviceMemory
from gpuward.agent.window import Readings
from gpuward.daemon.clock import SystemClock
from gpuward.tap.layout import (
    Counters,
    Header,
    OutOfMemory,
    Record,
    Summary,
    Totals,
    pack_header,
    pack_record,
)

MIB = 2**20
GIB = 2**30
GPU = bytes(range(1, 17))
UUID = "GPU-01020304-0506-0708-090a-0b0c0d0e0f10"


class TapDirectory:
    """A tap directory that a test fills; pids are what the test says they are."""

    def __init__(self, path, clock):
        self.path = path / "tap"
        self.path.mkdir()
        self.clock = clock
        self.proc = path / "proc"
        self.holders = {}
        self.names = {}
        self.memory = {UUID: DeviceMemory(80 * GIB, 10 * GIB)}
        self.gpus = []
        self.sampler = TapSampler(
            self.path,
            clock=clock,
            proc_root=self.proc,
            device_memory=self.memory.get,
            gpus=lambda: self.gpus,
            identify=self._identify,
            holder_of=self._holder,
        )

    def write(self, *records, name=None, pid=77, key="vllm:llama", uid=None, conf="", rank=(0, 0)):
        """Write a file of one device whose slots hold ``records``; return its path."""
        header = Header(device_count=1, alloc_conf=conf, rank=rank[0], world=rank[1])
        raw = bytearray(header.file_size)
        raw[:4096] = pack_header(header)
        for record in records:
            slot = bytearray(1024)
            pack_record(slot, record)
            at = header.slot_offset(0, record.seq)
            raw[at : at + 1024] = slot
        path = self.path / (name or f"{uuid.uuid4()}.tap")
        if path.exists():
            with path.open("r+b") as file:
                file.write(raw)
        else:
            path.write_bytes(raw)
        os.utime(path, (self.clock.wall_s(), self.clock.wall_s()))
        self.holders[path.stat().st_ino] = pid
        if pid:
            self.names[pid] = key
            status = self.proc / str(pid) / "status"
            status.parent.mkdir(parents=True, exist_ok=True)
            owner = os.getuid() if uid is None else uid
            status.write_text(f"Name:\tpython\nUid:\t{owner}\t{owner}\t{owner}\t{owner}\n")
        return path

    def record(self, seq=2, *, gpu=GPU, flags=0, totals=None, oom=None, ago_s=0.0, **counters):
        """Return a record written ``ago_s`` ago on the test's clock."""
        return Record(
            seq,
            int((self.clock.mono_s() - ago_s) * 1e9),
            int((self.clock.wall_s() - ago_s) * 1e9),
            gpu,
            0,
            flags,
            all_pools=Counters(**counters),
            totals=totals or Totals(),
            oom=oom or OutOfMemory(),
        )

    def sample(self):
        """Return what is said of processes and GPUs in one sampling."""
        batch = asyncio.run(self.sampler.sample(self.clock.mono_s()))
        return replace(batch, samples=tuple(one for one in batch.samples if one.key.gpu))

    def readable(self):
        """Return what one sampling says of the taps together."""
        (told,) = (
            sample.value
            for sample in asyncio.run(self.sampler.sample(self.clock.mono_s())).samples
            if sample.key == SeriesKey("node_taps_readable")
        )
        return told

    def figures(self):
        """Return the values of one sampling by (process, signal)."""
        return {
            (sample.key.process, sample.key.signal): sample.value
            for sample in self.sample().samples
        }

    def _identify(self, pid, _):
        return Process(self.names[pid], pid, 5) if pid in self.names else None

    def _holder(self, fd):
        return self.holders.get(os.fstat(fd).st_ino)


@pytest.fixture
def tap(tmp_path, clock):
    directory = TapDirectory(tmp_path, clock)
    yield directory
    directory.sampler.close()


def test_a_record_becomes_samples_of_process_and_gpu(tap):
    tap.write(
        tap.record(
            reserved_bytes=40 * GIB,
            active_bytes=30 * GIB,
            allocated_bytes=29 * GIB,
            requested_bytes=28 * GIB,
            inactive_split_bytes=4 * GIB,
            totals=Totals(
                alloc_retries=3,
                ooms=1,
                sync_all_streams=4,
                device_allocs=7,
                device_frees=2,
                private_pool_reserved_bytes=GIB,
            ),
        )
    )
    batch = tap.sample()

    assert {sample.key.signal: sample.value for sample in batch.samples} == {
        "process_memory_reserved_bytes": 40 * GIB,
        "process_memory_active_bytes": 30 * GIB,
        "process_memory_allocated_bytes": 29 * GIB,
        "process_memory_requested_bytes": 28 * GIB,
        "process_memory_stranded_bytes": 4 * GIB,
        # Less what a graph's pool may have of it.
        "process_memory_releasable_bytes": 5 * GIB,
        "process_memory_headroom_bytes": 15 * GIB,
        "process_memory_headroom_fast_bytes": 10 * GIB,
        "process_memory_private_pool_bytes": 1 * GIB,
        "process_memory_rounding_waste_ratio": pytest.approx(2 / 30),
        "process_memory_expandable_segments": 0,
        "process_memory_tapped_processes": 1,
        "process_allocation_retries_total": 3,
        "process_allocation_stream_syncs_total": 4,
        "process_allocation_driver_calls_total": 9,
        "process_out_of_memory_total": 1,
    }
    assert {(s.key.gpu, s.key.process, s.at_s) for s in batch.samples} == {
        (UUID, "vllm:llama", tap.clock.mono_s())
    }
    assert batch.processes == (Process("vllm:llama", 77, 5, gpus=(UUID,), tapped=True),)
    # A signal that is not in the table would raise.
    Readings().apply("tap", batch, tap.clock.mono_s())


def test_without_the_driver_s_word_there_is_no_headroom(tap):
    tap.memory.clear()
    tap.write(tap.record(reserved_bytes=GIB, active_bytes=GIB))

    assert not any("headroom" in signal for _, signal in tap.figures())


def test_the_mean_large_request_is_of_the_last_minute(tap):
    for tick in range(70):
        # A thousand large requests of 1 MiB in the first second, then one of 100 MiB a second.
        totals = Totals(
            large_allocations=1000 + tick if tick else 0,
            large_allocated_bytes=(1000 + 100 * tick) * MIB if tick else 0,
        )
        tap.write(
            tap.record(2 + 2 * tick, reserved_bytes=GIB, active_bytes=GIB, totals=totals),
            name="00000000-0000-4000-8000-000000000000.tap",
        )
        figures = tap.figures()
        asyncio.run(tap.clock.advance(1.0))

    assert figures["vllm:llama", "process_memory_mean_large_request_bytes"] == 100 * MIB
    assert figures["vllm:llama", "process_memory_headroom_ratio"] == pytest.approx(102.4)


def test_processes_of_one_name_are_summed(tap):
    tap.write(tap.record(reserved_bytes=2 * GIB, active_bytes=GIB), pid=77)
    tap.write(tap.record(reserved_bytes=5 * GIB, active_bytes=GIB, ago_s=9), pid=78)
    tap.write(tap.record(reserved_bytes=9 * GIB, active_bytes=GIB, ago_s=10), pid=79)
    figures = tap.figures()

    assert figures["vllm:llama", "process_memory_reserved_bytes"] == 7 * GIB
    # The least of what each of them has.
    assert figures["vllm:llama", "process_memory_headroom_bytes"] == 11 * GIB
    assert figures["vllm:llama", "process_memory_tapped_processes"] == 2


def test_processes_of_other_names_are_not(tap):
    tap.write(tap.record(reserved_bytes=2), pid=77)
    tap.write(tap.record(reserved_bytes=5), pid=78, key="sglang:qwen")
    figures = tap.figures()

    assert figures["vllm:llama", "process_memory_reserved_bytes"] == 2
    assert figures["sglang:qwen", "process_memory_reserved_bytes"] == 5


def test_what_has_not_changed_is_not_sampled_again(tap):
    tap.write(tap.record(reserved_bytes=2))
    tap.sample()

    batch = tap.sample()
    assert (batch.samples, len(batch.processes)) == ((), 1)


@pytest.mark.parametrize(
    ("mono_off_s", "real_off_s", "age_s"),
    [
        pytest.param(0, 0, 0, id="now"),
        pytest.param(-30, -30, 30, id="half a minute ago"),
        pytest.param(-3600, -2, 2, id="another monotonic clock: a time namespace"),
        pytest.param(3600, 0, 0, id="a monotonic clock of the future"),
        pytest.param(-2, -3600, 3600, id="unclear: the older"),
        pytest.param(50, 50, 0, id="all of the future"),
    ],
)
def test_when_a_record_was_written(tap, mono_off_s, real_off_s, age_s):
    record = tap.record(reserved_bytes=2)
    tap.write(
        record._replace(
            mono_ns=record.mono_ns + mono_off_s * 10**9 if mono_off_s > -1000 else 10**9,
            real_ns=record.real_ns + real_off_s * 10**9,
        )
    )

    at_s = next(sample.at_s for sample in tap.sample().samples)
    assert at_s == pytest.approx(tap.clock.mono_s() - age_s)


@pytest.mark.parametrize(
    ("counters", "accepted"),
    [
        pytest.param({"reserved_bytes": 160 * GIB}, True, id="twice the card: sleep mode"),
        pytest.param({"reserved_bytes": 160 * GIB + 1}, False, id="more"),
        pytest.param({"allocated_bytes": 2**63}, False, id="allocated without end"),
        pytest.param({"requested_bytes": 2**63}, False, id="requested without end"),
        pytest.param({"active_bytes": 2**63}, False, id="active without end"),
        pytest.param({"inactive_split_bytes": 2**63}, False, id="split without end"),
    ],
)
def test_figures_that_no_card_can_have_are_dropped(tap, counters, accepted):
    tap.write(tap.record(**counters))

    assert bool(tap.sample().samples) == accepted
    assert tap.sampler.refused["implausible record"] == (not accepted)


@pytest.mark.parametrize(
    ("flags", "parts", "accepted"),
    [
        pytest.param(2, {"summary": Summary(1, pending_free_bytes=160 * GIB)}, True, id="as above"),
        pytest.param(2, {"summary": Summary(1, pending_free_bytes=2**63)}, False, id="pending"),
        pytest.param(2, {"summary": Summary(1, releasable_bytes=2**63)}, False, id="releasable"),
        pytest.param(2, {"summary": Summary(1, free_bytes=2**63)}, False, id="free"),
        pytest.param(0, {"summary": Summary(1, free_bytes=2**63)}, True, id="nobody walked"),
        pytest.param(
            0, {"totals": Totals(private_pool_reserved_bytes=2**63)}, False, id="a private pool"
        ),
    ],
)
def test_nor_can_a_walk_find_more(tap, flags, parts, accepted):
    tap.write(tap.record(flags=flags)._replace(**parts))

    assert bool(tap.sample().samples) == accepted


def test_figures_of_an_unknown_card_have_a_limit_too(tap):
    tap.memory.clear()
    tap.write(tap.record(reserved_bytes=2**44 + 1))

    assert tap.sample().samples == ()


def test_a_walk_over_the_blocks_says_how_much_is_of_no_use(tap):
    """A mean request of 3 MiB: 6 MiB lie in blocks of 2 MiB, 18 MiB in larger ones."""
    now_ns = int(tap.clock.mono_s() * 1e9)
    free_bytes, free_counts = [0] * 28, [0] * 28
    free_bytes[12], free_counts[12] = 6 * MIB, 3
    free_bytes[14], free_counts[14] = 18 * MIB, 2
    walked = tap.record(
        4,
        flags=2,
        totals=Totals(large_allocations=10, large_allocated_bytes=30 * MIB),
        reserved_bytes=29 * MIB,
    )._replace(
        summary=Summary(
            mono_ns=now_ns,
            free_bytes=24 * MIB,
            releasable_bytes=4 * MIB,
            largest_free_bytes=9 * MIB,
            private_free_bytes=5 * MIB,
        ),
        free_bytes=tuple(free_bytes),
        free_counts=tuple(free_counts),
    )
    name = "00000000-0000-4000-8000-000000000000.tap"
    tap.write(tap.record(2), name=name)
    before = tap.figures()
    tap.write(walked, name=name)
    said = tap.figures()

    assert ("vllm:llama", "process_memory_private_pool_free_bytes") not in before
    assert 5 * MIB == said["vllm:llama", "process_memory_private_pool_free_bytes"]

    assert 0.25 == said["vllm:llama", "process_memory_unusable_free_ratio"]
    assert 10 * GIB == said["vllm:llama", "process_memory_headroom_fast_bytes"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        pytest.param(4, {("vllm:llama", "process_tap_degraded"): 1.0}, id="it may never ask"),
        pytest.param(4 + 64, {}, id="it may ask later, when the process does something"),
    ],
)
def test_a_degraded_tap_says_that_it_is(tap, flags, said):
    tap.write(tap.record(flags=flags))

    assert said == tap.figures()


def test_a_degraded_tap_says_nothing_of_memory(tap):
    tap.write(tap.record(flags=4))
    batch = tap.sample()

    assert {"process_tap_degraded"} == {sample.key.signal for sample in batch.samples}
    assert batch.processes == (Process("vllm:llama", 77, 5, tapped=True),)


@pytest.mark.parametrize(
    ("free", "neighbour_free", "cause"),
    [
        pytest.param(7, 0, "fragmentation", id="in pieces"),
        pytest.param(6, 6, "neighbour", id="in a neighbour's cache"),
        pytest.param(6, 5, "capacity", id="nowhere"),
    ],
)
def test_an_out_of_memory_error_is_an_event_with_its_cause(tap, free, neighbour_free, cause):
    """8 GiB asked, 2 free on the device; 34 in use and 8 more are not a whole number of pages."""
    now_ns = int(tap.clock.mono_s() * 1e9)
    oom = OutOfMemory(now_ns - 10**9, 8 * GIB, 2 * GIB, 40 * GIB, (40 - free) * GIB)
    reserved = {"reserved_bytes": 40 * GIB, "active_bytes": (40 - free) * GIB}
    path = tap.write(tap.record(oom=oom, flags=16, **reserved))
    tap.write(
        tap.record(reserved_bytes=9 * GIB, active_bytes=(9 - neighbour_free) * GIB), pid=78, key="b"
    )
    (event,) = tap.sample().events

    words = {
        "fragmentation": "in pieces",
        "neighbour": "caches of other processes",
        "capacity": "was not there",
    }
    assert words[cause] in event.text
    assert (event.kind, event.gpu, event.process, event.pid) == (
        "process.memory.oom",
        UUID,
        "vllm:llama",
        77,
    )
    assert event.identity == f"{path.stem}:{now_ns - 10**9}"
    assert event.at_s == pytest.approx(tap.clock.mono_s() - 1)
    assert dict(event.values) == {
        "requested_bytes": 8 * GIB,
        "device_free_bytes": 2 * GIB,
        "cache_free_bytes": free * GIB,
        "neighbours_releasable_bytes": neighbour_free * GIB,
        "reserved_bytes": 40 * GIB,
    }


def test_an_error_is_told_once(tap):
    name = "00000000-0000-4000-8000-000000000000.tap"
    now_ns = int(tap.clock.mono_s() * 1e9)
    told = []
    for seq, oom_ns in ((2, now_ns), (4, now_ns), (6, now_ns + 5), (8, now_ns + 5)):
        record = tap.record(seq, oom=OutOfMemory(oom_ns, 1, 1, 1, 1))
        tap.write(record._replace(mono_ns=now_ns + 10), name=name)
        told.append(len(tap.sample().events))

    assert told == [1, 0, 1, 0]


def test_an_error_waits_until_its_process_has_a_name(tap):
    """The driver lists processes every few seconds; an error of nobody would lead nowhere."""
    now_ns = int(tap.clock.mono_s() * 1e9)
    tap.write(tap.record(oom=OutOfMemory(now_ns, 1, 1, 1, 1)))
    names, tap.names = tap.names, {}
    assert () == tap.sample().events

    tap.names = names
    assert ["vllm:llama"] == [event.process for event in tap.sample().events]
    assert () == tap.sample().events


@pytest.mark.parametrize(
    ("ago_s", "told"),
    [pytest.param(899, 1, id="news"), pytest.param(901, 0, id="old when the agent started")],
)
def test_an_old_error_is_not_news(tap, ago_s, told):
    oom = OutOfMemory(int((tap.clock.mono_s() - ago_s) * 1e9), 1, 1, 1, 1)
    tap.write(tap.record(oom=oom))

    assert len(tap.sample().events) == told


def test_a_dead_writer_has_no_samples_and_no_process_but_its_last_words(tap):
    path = tap.write(tap.record(reserved_bytes=GIB))
    tap.sample()
    oom = OutOfMemory(int(tap.clock.mono_s() * 1e9), 1, 1, 1, 1)
    tap.write(tap.record(4, reserved_bytes=GIB, oom=oom), name=path.name, pid=None)
    batch = tap.sample()

    assert (batch.samples, batch.processes) == ((), ())
    assert [(event.process, event.pid) for event in batch.events] == [("vllm:llama", 77)]


def test_a_file_that_is_removed_is_read_to_its_end(tap):
    """The writer left cleanly after its error: the open file still tells."""
    path = tap.write(tap.record(reserved_bytes=GIB))
    tap.sample()
    oom = OutOfMemory(int(tap.clock.mono_s() * 1e9), 1, 1, 1, 1)
    tap.write(tap.record(4, oom=oom), name=path.name, pid=None)
    path.unlink()

    assert [len(tap.sample().events), len(tap.sample().events)] == [1, 0]


@pytest.mark.parametrize(
    ("age_s", "pid", "kept"),
    [
        pytest.param(901, 77, True, id="alive"),
        pytest.param(900, None, True, id="dead for a quarter of an hour"),
        pytest.param(901, None, False, id="dead for longer"),
    ],
)
def test_stale_files_are_removed(tap, age_s, pid, kept):
    path = tap.write(tap.record(), pid=pid)
    written_s = tap.clock.wall_s() - age_s
    os.utime(path, (written_s, written_s))
    tap.sample()

    assert path.exists() == kept


def test_a_file_that_took_the_name_of_a_stale_one_is_not_removed(tap):
    path = tap.write(tap.record(), pid=None)
    tap.sample()
    written_s = tap.clock.wall_s() - 901
    os.utime(path, (written_s, written_s))
    path.rename(path.with_suffix(".old"))
    path.write_bytes(b"another")
    tap.sample()

    assert path.read_bytes() == b"another"


def test_what_lies_beside_a_stale_file_goes_after_it(tap):
    """The tap file goes first; what belonged to it is nobody's at the next regular listing."""
    path = tap.write(tap.record(), pid=None)
    written_s = tap.clock.wall_s() - 901
    for suffix in (".tap", ".req", ".map"):
        path.with_suffix(suffix).touch()
        os.utime(path.with_suffix(suffix), (written_s, written_s))
    tap.sample()
    assert sorted(file.suffix for file in tap.path.iterdir()) == [".map", ".req"]

    asyncio.run(tap.clock.advance(30))
    tap.sample()
    assert list(tap.path.iterdir()) == []


@pytest.mark.parametrize(
    ("suffix", "age_s", "has_tap_file", "kept"),
    [
        pytest.param(".req", 901, False, False, id="a question to nobody"),
        pytest.param(".map", 901, False, False, id="an answer that nobody fetched"),
        pytest.param(".map.tmp", 901, False, False, id="half an answer"),
        pytest.param(".tmp", 901, False, False, id="half a tap file"),
        pytest.param(".map", 899, False, True, id="too fresh"),
        pytest.param(".map", 901, True, True, id="its process lives"),
        pytest.param(".txt", 901, False, True, id="not one of ours"),
    ],
)
def test_what_killed_processes_left_is_removed(tap, suffix, age_s, has_tap_file, kept):
    tap_file = tap.write(tap.record(), pid=77)
    left = tap_file.with_suffix(suffix)
    left.write_bytes(b"")
    written_s = tap.clock.wall_s() - age_s
    os.utime(left, (written_s, written_s))
    if not has_tap_file:
        tap_file.unlink()
    tap.sample()

    assert left.exists() == kept


def test_a_link_that_lies_about_is_removed_and_not_what_it_points_at(tap, tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"")
    link = tap.path / f"{uuid.uuid4()}.map"
    link.symlink_to(target)
    written_s = tap.clock.wall_s() - 901
    os.utime(link, (written_s, written_s), follow_symlinks=False)
    tap.sample()

    assert (link.is_symlink(), target.exists()) == (False, True)


@pytest.mark.parametrize(
    ("uid", "pid", "named"),
    [
        pytest.param(None, 77, True, id="its owner writes it"),
        pytest.param(os.getuid() + 1, 77, False, id="another user's process holds the lock"),
        pytest.param(None, 0, False, id="a process in a namespace that cannot be seen"),
    ],
)
def test_a_writer_must_be_who_the_file_belongs_to(tap, uid, pid, named):
    tap.write(tap.record(reserved_bytes=GIB), uid=uid, pid=pid)
    batch = tap.sample()

    assert bool(batch.processes) == bool(batch.samples) == named


def test_a_process_that_cannot_be_named_yet_is_asked_for_again(tap):
    tap.write(tap.record(reserved_bytes=GIB))
    del tap.names[77]
    assert tap.sample().processes == ()
    tap.names[77] = "vllm:llama"

    assert [process.key for process in tap.sample().processes] == ["vllm:llama"]


@pytest.mark.parametrize(
    "name",
    [
        "00000000-0000-4000-8000-000000000000.tmp",
        "00000000-0000-4000-8000-000000000000.tap.tmp",
        "00000000-0000-4000-8000-00000000000G.tap",
        "DISABLE",
        "x.tap",
    ],
)
def test_other_names_are_not_looked_at(tap, name):
    tap.write(tap.record(reserved_bytes=GIB), name=name)

    assert tap.sample().processes == ()


def test_a_flood_is_capped_and_counted_and_others_are_still_read(tap, monkeypatch):
    for pid in range(100, 170):
        tap.write(tap.record(reserved_bytes=1), pid=pid)

    assert len(tap.sample().processes) == 64
    assert tap.sampler.refused["too many files of one user"] == 6
    tap.sample()
    assert tap.sampler.refused["too many files of one user"] == 6


def test_garbage_is_refused_once_and_does_not_disturb(tap):
    garbage = tap.path / "00000000-0000-4000-8000-000000000000.tap"
    os.mkfifo(garbage)
    tap.write(tap.record(reserved_bytes=GIB))
    tap.sample()

    assert len(tap.sample().processes) == 1
    assert tap.sampler.refused["not a regular file"] == 1


@pytest.fixture
def unprivileged():
    """Return a folder that a user without rights can reach, and be that user meanwhile."""
    with TemporaryDirectory(dir="/tmp") as path:
        Path(path).chmod(0o755)
        is_root = os.geteuid() == 0

        def become(user):
            if is_root:
                os.seteuid(user)

        yield Path(path), become
        become(0)


NOBODY = 65_534


@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "trouble"),
    [
        pytest.param(0o755, 0o644, "", id="all may be read"),
        pytest.param(0o300, 0o644, "Permission denied", id="the folder may not be listed"),
        pytest.param(0o755, 0o000, "taps that this user may not read: 1", id="a file"),
    ],
)
def test_taps_that_this_user_may_not_read_are_told(
    unprivileged, clock, folder_mode, file_mode, trouble
):
    """Else each process would seem to have no tap."""
    folder, become = unprivileged
    tap = TapDirectory(folder, clock)
    tap.write(tap.record(reserved_bytes=GIB)).chmod(file_mode)
    tap.path.chmod(folder_mode)
    become(NOBODY)

    readable = tap.readable()
    health = tap.sampler.health
    become(0)
    tap.path.chmod(0o755)
    tap.sampler.close()

    assert readable == float(not trouble)
    assert trouble in health.reason
    assert (health.result is Result.OK) == (not trouble)


def test_a_directory_that_is_not_there_yet(tmp_path, clock):
    directory = tmp_path / "later"
    sampler = TapSampler(directory, clock=clock, proc_root=tmp_path, device_memory=lambda _: None)

    assert asyncio.run(sampler.sample(1.0)).processes == ()
    directory.mkdir()
    assert asyncio.run(sampler.sample(2.0)).processes == ()


WRITER = """
import sys
from gpuward.tap.publisher import Publisher
publisher = Publisher(sys.argv[1], [(bytes(range(1, 17)), 0)])
publisher.publish(0, {"reserved_bytes": {"all": {"current": 2**30}}})
print("ready", flush=True)
sys.stdin.read()
"""


def _writer(directory, *before):
    return subprocess.Popen(
        [*before, sys.executable, "-c", WRITER, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "agent" / "tap")},
    )


@pytest.mark.parametrize(
    ("confs", "expected"),
    [
        pytest.param(["expandable_segments:True"], None, id="not set"),
        pytest.param(["max_split_size_mb:64"], 64 * MIB, id="set"),
        pytest.param(["max_split_size_mb:64", "max_split_size_mb:32"], 32 * MIB, id="the smallest"),
    ],
)
def test_what_the_allocator_was_told(tap, confs, expected):
    for pid, conf in enumerate(confs, 77):
        tap.write(tap.record(), pid=pid, conf=conf)

    found = tap.figures().get(("vllm:llama", "process_memory_max_split_size_bytes"))

    assert found == expected


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        pytest.param((0, 0), "", id="not known"),
        pytest.param((0, 1), "", id="alone"),
        pytest.param((1, 2), "RANK1", id="one of two"),
    ],
)
def test_a_place_among_others(tap, rank, expected):
    tap.write(tap.record(), rank=rank)

    assert [expected] == [process.rank for process in tap.sample().processes]


CARD = "GPU-00000000-0000-0000-0000-000000000001"
SLICED = Gpu(CARD, 0, "H100", "0", mig=(MigDevice(UUID.replace("GPU", "MIG"), 9, 0),))


def test_a_process_on_a_slice_belongs_to_the_card(tap):
    """Its room is that of the slice: 10 GiB free there, whatever the card has."""
    tap.gpus = [SLICED]
    tap.memory |= {
        CARD: DeviceMemory(80 * GIB, 70 * GIB),
        UUID.replace("GPU", "MIG"): DeviceMemory(20 * GIB, 10 * GIB),
    }
    oom = OutOfMemory(int((tap.clock.mono_s() - 1) * 1e9), GIB, 0, GIB, GIB)
    tap.write(tap.record(reserved_bytes=GIB, active_bytes=GIB, oom=oom))

    batch = tap.sample()

    assert [(CARD,)] == [process.gpus for process in batch.processes]
    assert [CARD] == [event.gpu for event in batch.events]
    assert {CARD} == {sample.key.gpu for sample in batch.samples}
    headroom = [s.value for s in batch.samples if s.key.signal == "process_memory_headroom_bytes"]
    assert [10 * GIB] == headroom


def test_of_two_slices_of_one_name_the_fuller_decides(tap):
    """Slices share no memory; figures of one name on one card are told together."""
    other = bytes(range(2, 18))
    other_name = GpuNames()(other).gpu.replace("GPU", "MIG")
    tap.gpus = [replace(SLICED, mig=(*SLICED.mig, MigDevice(other_name, 9, 1)))]
    tap.memory |= {
        UUID.replace("GPU", "MIG"): DeviceMemory(20 * GIB, 10 * GIB),
        other_name: DeviceMemory(20 * GIB, 3 * GIB),
    }
    tap.write(tap.record(), pid=77)
    tap.write(tap.record(gpu=other), pid=78)

    figures = tap.figures()

    assert figures["vllm:llama", "process_memory_headroom_bytes"] == 3 * GIB
    assert figures["vllm:llama", "process_memory_tapped_processes"] == 2


def _sampler(directory):
    return TapSampler(
        directory,
        clock=SystemClock(),
        proc_root=Path("/proc"),
        device_memory=lambda _: DeviceMemory(80 * GIB, GIB),
    )


def _sample(sampler):
    batch = asyncio.run(sampler.sample(SystemClock().mono_s()))
    return replace(batch, samples=tuple(one for one in batch.samples if one.key.gpu))


def test_a_real_writer_is_seen_alive_and_then_dead(tmp_path):
    sampler = _sampler(tmp_path)
    with _writer(tmp_path) as process:
        process.stdout.readline()
        alive = _sample(sampler)
        process.kill()
    dead = _sample(sampler)

    assert [found.pid for found in alive.processes] == [process.pid]
    assert {sample.key.gpu for sample in alive.samples} == {UUID}
    assert dead.processes == ()
    assert len(list(tmp_path.iterdir())) == 1
    sampler.close()


def test_a_writer_in_a_pid_namespace_has_the_host_s_pid(tmp_path):
    unshare = ("unshare", "--pid", "--fork", "--kill-child")
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("PID namespaces are not permitted")
    sampler = _sampler(tmp_path)
    with _writer(tmp_path, *unshare) as process:
        process.stdout.readline()
        (found,) = _sample(sampler).processes
        in_namespace = Path(f"/proc/{found.pid}/status").read_text()
        process.kill()

    assert f"NSpid:\t{found.pid}\t1\n" in in_namespace
    sampler.close()
