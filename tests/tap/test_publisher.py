"""The writer of a tap file: what it writes, when it gives up, what it leaves behind."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import stat
import struct
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.samplers.tap_record import unpack_record
from gpuward.tap import publisher as publisher_module
from gpuward.tap.layout import unpack_header, unpack_ring_entry
from gpuward.tap.publisher import Publisher

TAP = Path(__file__).parents[2] / "agent" / "tap"
GPU = bytes(range(16))
FAMILIES = (
    "allocation",
    "segment",
    "active",
    "inactive_split",
    "allocated_bytes",
    "reserved_bytes",
    "active_bytes",
    "inactive_split_bytes",
    "requested_bytes",
)
U64 = st.integers(0, 2**64 - 1)
FIGURES = st.fixed_dictionaries(dict.fromkeys(("current", "peak", "allocated", "freed"), U64))
POOLS = st.fixed_dictionaries(dict.fromkeys(("all", "small_pool", "large_pool"), FIGURES))
STATS = st.fixed_dictionaries(
    {
        **dict.fromkeys(FAMILIES, POOLS),
        **dict.fromkeys(("num_alloc_retries", "num_ooms", "num_device_alloc"), U64),
    }
)


@pytest.fixture(scope="module")
def publisher(tmp_path_factory):
    publisher = Publisher(tmp_path_factory.mktemp("tap"), [(GPU, 3)])
    yield publisher
    publisher.close()


def newest(publisher, device_index=0):
    raw = publisher.path.read_bytes()
    header = unpack_header(raw)
    offset = header.device_offset(device_index)
    records = [unpack_record(raw, offset), unpack_record(raw, offset + header.slot_size)]
    return max((record for record in records if record), key=lambda record: record.seq)


def stats(**counters):
    return {"reserved_bytes": {"all": {"current": 7, "peak": 8}}, **counters}


@given(STATS)
def test_what_torch_says_is_what_a_reader_finds(publisher, figures):
    publisher.publish(0, figures, flags=1, tick_cost_ns=5)

    record = newest(publisher)
    for index, family in enumerate(FAMILIES):
        pools = figures[family]
        assert (
            record.all_pools[index],
            record.small_pool[index],
            record.large_pool[index],
            record.peak[index],
        ) == (
            pools["all"]["current"],
            pools["small_pool"]["current"],
            pools["large_pool"]["current"],
            pools["all"]["peak"],
        )
    assert record.totals.large_allocations == figures["allocation"]["large_pool"]["allocated"]
    assert (
        record.totals.large_allocated_bytes == figures["allocated_bytes"]["large_pool"]["allocated"]
    )
    assert record.totals.allocations == figures["allocation"]["all"]["allocated"]
    assert record.totals.alloc_retries == figures["num_alloc_retries"]
    assert record.totals.ooms == figures["num_ooms"]
    assert (record.gpu_uuid, record.ordinal, record.flags & ~16, record.tick_cost_ns) == (
        GPU,
        3,
        1,
        5,
    )


def test_statistics_of_another_torch_are_taken_as_far_as_they_go(tmp_path):
    odd = {
        "allocation": {},
        "num_ooms": 5,
        "reserved_bytes_by_private_pools": {(0, 1): {"all": {"current": 9}}, (0, 2): {}},
        "something_new": object(),
    }
    publisher = Publisher(tmp_path, [(GPU, 0)])
    publisher.publish(0, odd)

    record = newest(publisher)
    totals = record.totals
    assert (totals.ooms, totals.private_pool_reserved_bytes, record.flags) == (5, 9, 32)
    publisher.close()


def test_a_figure_that_no_counter_can_have_is_not_written(tmp_path):
    publisher = Publisher(tmp_path, [(GPU, 0)])
    publisher.publish(0, stats(num_ooms=4))
    with pytest.raises(struct.error):
        publisher.publish(0, stats(num_ooms=-1))

    assert newest(publisher).totals.ooms == 4
    publisher.close()


def test_a_file_that_is_being_written_is_not_closed_under_the_writer(tmp_path):
    """The number of its descriptor would be the next file's that the host opens."""
    publisher = Publisher(tmp_path, [(GPU, 0)])
    with publisher._busy:
        publisher.close()
        os.fstat(publisher._fd)

    publisher.close()
    assert list(tmp_path.iterdir()) == []


def test_publications_alternate_between_two_slots_and_fill_the_ring(tmp_path):
    publisher = Publisher(tmp_path, [(GPU, 0)])
    for _ in range(3):
        publisher.publish(0, stats())

    raw = publisher.path.read_bytes()
    assert [unpack_record(raw, at).seq for at in (4096, 5120)] == [4, 6]
    entries = [unpack_ring_entry(raw, 6144 + 64 * n) for n in range(5)]
    assert [None if entry is None else entry.reserved_bytes for entry in entries] == [
        None,
        7,
        7,
        7,
        None,
    ]
    publisher.close()


def test_an_out_of_memory_error_stays_until_the_next(tmp_path):
    publisher = Publisher(tmp_path, [(GPU, 0)])
    publisher.publish(0, stats())
    publisher.record_oom(0, 100, 20)
    publisher.publish(0, {})

    record = newest(publisher)
    assert (record.oom[1:], record.flags) == ((100, 20, 7, 0), 16)
    assert record.totals.last_oom_request_bytes == 100
    publisher.close()


def test_an_out_of_memory_error_takes_the_statistics_of_the_moment(tmp_path):
    publisher = Publisher(tmp_path, [(GPU, 0)])
    publisher.record_oom(0, 100, 20, stats(num_ooms=4))

    record = newest(publisher)
    assert (record.oom.reserved_bytes, record.totals.ooms) == (7, 4)
    publisher.close()


def test_a_publication_beside_another_is_counted_and_does_not_wait(tmp_path):
    publisher = Publisher(tmp_path, [(GPU, 0)])
    with publisher._busy:
        assert not publisher.publish(0, stats())
        # Its record must not be lost: the next publication carries it.
        assert not publisher.record_oom(0, 100, 20)
    assert publisher.publish(0, stats())

    assert (newest(publisher).missed_ticks, newest(publisher).oom.request_bytes) == (2, 100)
    publisher.close()


def test_the_file_is_made_whole_before_it_has_its_name(tmp_path, monkeypatch):
    """A reader that sees the name sees a complete header, a lock and all the space."""
    seen = []

    def rename(unfinished, path):
        header = unpack_header(unfinished.read_bytes())
        seen.append((path.exists(), unfinished.suffix, header.file_size))
        unfinished.replace(path)

    monkeypatch.setattr(publisher_module.Path, "rename", rename)
    publisher = Publisher(tmp_path, [(GPU, 0), (GPU, 1)])

    assert seen == [(False, ".tmp", 24_576)]
    status = publisher.path.stat()
    assert (status.st_size, stat.S_IMODE(status.st_mode)) == (24_576, 0o640)
    assert uuid.UUID(publisher.path.stem).version == 4
    publisher.close()


def test_a_file_is_readable_by_the_group_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        publisher = Publisher(tmp_path, [(GPU, 0)])
    finally:
        os.umask(before)

    assert stat.S_IMODE(publisher.path.stat().st_mode) == 0o640
    publisher.close()


@pytest.mark.parametrize(
    ("module", "call"),
    [
        pytest.param(os, "open", id="open"),
        pytest.param(os, "fchmod", id="fchmod"),
        pytest.param(os, "posix_fallocate", id="fallocate"),
        pytest.param(os, "pwrite", id="pwrite"),
        pytest.param(fcntl, "lockf", id="lock"),
        pytest.param(publisher_module.Path, "rename", id="rename"),
    ],
)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EMFILE, errno.EROFS])
def test_a_failure_at_any_step_leaves_nothing_behind(tmp_path, monkeypatch, module, call, number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    # What an earlier test left to the collector is not to be closed in between.
    gc.collect()
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patched:
        patched.setattr(module, call, fail)
        with pytest.raises(OSError, match=os.strerror(number)):
            Publisher(tmp_path, [(GPU, 0)])

    assert list(tmp_path.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_closing_removes_the_file_and_may_be_repeated(tmp_path):
    publisher = Publisher(tmp_path, [(GPU, 0)])
    publisher.close()
    publisher.close()

    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="closed"):
        publisher.publish(0, stats())


WRITER = """
import os, sys
from gpuward.tap.publisher import Publisher
publisher = Publisher(sys.argv[1], [(bytes(range(16)), 0)])
figures = {"reserved_bytes": {"all": {"current": 0, "peak": 0}}}
print(publisher.path, flush=True)
"""


def writer(directory, script):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER + script, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TAP)},
    )


def is_locked(path):
    """Return the pid of the holder, 0 for none; closing the file here would drop a lock of ours."""
    script = (
        "import fcntl, struct, sys\n"
        "asked = struct.pack('hhqqi', fcntl.F_WRLCK, 0, 0, 1, 0)\n"
        "with open(sys.argv[1], 'rb') as file:\n"
        "    answer = struct.unpack('hhqqi', fcntl.fcntl(file, fcntl.F_GETLK, asked))\n"
        "print(0 if answer[0] == fcntl.F_UNLCK else answer[4])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_kill_9_at_full_speed_leaves_a_whole_record_and_no_lock(tmp_path):
    script = """
n = 0
while True:
    n += 1
    figures["reserved_bytes"]["all"].update(current=n, peak=n)
    publisher.publish(0, figures)
    if n == 100: print("going", flush=True)
"""
    with writer(tmp_path, script) as process:
        path = Path(process.stdout.readline().strip())
        process.stdout.readline()
        assert is_locked(path) == process.pid
        process.kill()

    assert is_locked(path) == 0
    raw = path.read_bytes()
    records = [record for at in (4096, 5120) if (record := unpack_record(raw, at))]
    last = max(records, key=lambda record: record.seq)
    assert last.all_pools.reserved_bytes == last.peak.reserved_bytes == last.seq // 2


def test_a_forked_child_has_neither_lock_nor_file(tmp_path):
    script = """
child = os.fork()
if child:
    sys.stdin.read(); os._exit(0)
try:
    publisher.publish(0, figures)
except ValueError as error:
    print(error, os.getpid(), flush=True)
sys.stdin.read()
"""
    with writer(tmp_path, script) as process:
        path = Path(process.stdout.readline().strip())
        words = process.stdout.readline().split()
        holder = is_locked(path)
        process.stdin.close()

    assert words[:-1] == ["the", "tap", "file", "is", "closed"]
    assert holder == process.pid != int(words[-1])
    assert path.exists()


def test_a_thread_may_publish(tmp_path):
    publisher = Publisher(tmp_path, [(GPU, 0)])
    thread = threading.Thread(target=publisher.publish, args=(0, stats()))
    thread.start()
    thread.join()

    assert newest(publisher).all_pools.reserved_bytes == 7
    publisher.close()
